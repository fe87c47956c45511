//! Long histories of everything that can happen to a deployment, and what must be so at their end.

use std::collections::BTreeSet;

use engine_core::settle::hood::Standing;

use crate::draft::Draft;
use crate::histories;
use crate::world::{Counts, World, assert_nothing_planned};

fn begin(seed: u64, draft: &Draft) -> World {
    let fixture = draft.fixture(&BTreeSet::new());
    let mut world = World::new(fixture.compile().expect("generated deployments compile").graph, seed);
    world.know(&fixture);
    world
}

fn commit(world: &mut World, draft: &Draft) -> bool {
    if draft.compiles(&world.lost()) {
        let fixture = draft.fixture(&world.lost());
        world.know(&fixture);
        world.commit(fixture.compile().expect("it compiles").graph);
        return true;
    }
    false
}

/// A deployment and its documents so far.
struct Story {
    world: World,
    drafts: Vec<Draft>,
}

impl Story {
    fn new(seed: u64) -> Self {
        let mut draft = Draft::new(seed);
        let mut world = begin(seed, &draft);
        if world.dice.chance(40) {
            draft = draft.asking();
            world = begin(seed, &draft);
        }
        Self { world, drafts: vec![draft] }
    }

    fn now(&self) -> Draft {
        self.drafts.last().expect("a document").clone()
    }

    /// Somebody commits another document, or an earlier one again.
    fn change(&mut self) {
        let next = if self.world.dice.chance(30) {
            self.world.dice.pick(&self.drafts).cloned().expect("a document")
        } else {
            self.now().edited(&mut self.world.dice)
        };
        if commit(&mut self.world, &next) {
            self.drafts.push(next);
        }
    }

    fn something(&mut self) {
        let world = &mut self.world;
        match world.dice.below(13) {
            0..4 => self.change(),
            4 => drop(world.change_a_value()),
            5 | 6 => drop(world.some_node(Standing::In).map(|name| world.stand(&name, Standing::Aside))),
            7 => drop(world.some_node(Standing::Aside).map(|name| world.stand(&name, Standing::In))),
            8 => {
                if let Some(name) = world.some_node(Standing::In) {
                    world.lose(&name);
                }
            }
            9 => drop(world.approve(60)),
            10 => world.retry(50),
            11 => world.accept(50),
            _ => world.redeploy(false),
        }
    }

    fn live(&mut self, events: usize) {
        for _ in 0..events {
            for _ in 0..self.world.dice.below(40) {
                self.world.turn();
            }
            self.something();
        }
    }

    /// Nodes come back or are given up, what is lost is replaced, what failed is retried, what waits is approved.
    fn heal(&mut self) {
        self.world.failing = 0;
        while let Some(name) = self.world.some_node(Standing::Aside).filter(|_| self.world.dice.chance(30)) {
            self.world.lose(&name);
        }
        self.world.all_in();
        // Who is lost is not bound any more, and another is in its place.
        let now = self.now();
        assert!(commit(&mut self.world, &now), "what was committed before compiles");
        self.world.settle();
        self.world.heal();
    }
}

#[test]
fn whatever_happened_every_chain_of_causes_ends_and_healing_converges() {
    histories(|seed| {
        let mut story = Story::new(seed);
        story.world.failing = [0, 5, 20][story.world.dice.below(3)];
        story.world.crashing = [0, 10][story.world.dice.below(2)];
        for _ in 0..2 {
            let events = 1 + story.world.dice.below(6);
            story.live(events);
            story.world.settle();
            story.world.assert_causes();
        }
        story.heal();
        story.world.assert_converged();
        assert!(!story.world.turn(), "a second look finds nothing");
        let plan = story.world.plan(&story.now().fixture(&story.world.lost())).expect("it compiles");
        assert_nothing_planned(&plan);
        story.world.unbind_all();
        story.world.settle();
        story.world.heal();
        story.world.assert_gone();
    });
}

#[test]
fn a_change_that_failed_is_taken_back_without_anybody_s_help() {
    histories(|seed| {
        let before = Draft::new(seed);
        let mut world = begin(seed, &before);
        world.settle();
        if !before.compiles(&world.lost()) {
            return;
        }
        world.failing = 40;
        let next = before.edited(&mut world.dice);
        commit(&mut world, &next);
        for _ in 0..world.dice.below(60) {
            world.turn();
        }
        if world.dice.chance(50) {
            world.settle();
        }
        world.failing = 0;
        assert!(commit(&mut world, &before), "it compiled before");
        world.settle();
        world.assert_causes();
        // What failed while it left waits for a retry, and so does what keeps a circuit open; nothing else does.
        world.retry_leavers();
        world.settle();
        if !world.graph.budgets.is_empty() {
            world.heal();
        }
        world.assert_converged();
        let plan = world.plan(&before.fixture(&world.lost())).expect("it compiles");
        assert_nothing_planned(&plan);
    });
}

#[test]
fn what_is_applied_is_what_was_planned() {
    histories(|seed| {
        let mut draft = Draft::new(seed);
        let mut world = begin(seed, &draft);
        world.settle();
        for _ in 0..4 {
            let next = draft.edited(&mut world.dice);
            if !next.compiles(&world.lost()) {
                continue;
            }
            let fixture = next.fixture(&world.lost());
            let plan = world.plan(&fixture).expect("it compiles");
            if !plan.is_allowed() {
                continue;
            }
            draft = next;
            world.commit(fixture.compile().expect("it compiles").graph);
            world.settle();
            world.assert_converged();
            world.assert_as_planned(&plan);
            let plan = world.plan(&fixture).expect("it compiles");
            assert_nothing_planned(&plan);
        }
    });
}

#[test]
fn what_is_written_and_woken_follows_what_was_touched_and_run_in_fleets_of_any_size() {
    histories(|seed| {
        let mut counted = Vec::new();
        for size in [2, 12] {
            let draft = Draft::new(seed).sized("a", size);
            let mut world = begin(seed, &draft);
            world.steady = true;
            world.settle();
            world.counts.assert_proportional();
            world.counts = Counts::default();
            assert!(world.set_on("a-1"), "every role has a value to set");
            world.settle();
            world.assert_converged();
            world.counts.assert_proportional();
            counted.push(world.counts);
        }
        let [few, many] = &counted[..] else { unreachable!("two fleets") };
        // Where nobody gathers, the fleet is not to be seen in what is done.
        if (few.touched.len(), few.runs) == (many.touched.len(), many.runs) {
            assert_eq!((few.rows, few.woken, few.keys), (many.rows, many.woken, many.keys));
        }
    });
}

#[test]
fn who_stands_aside_is_missed_by_nobody_and_comes_back() {
    histories(|seed| {
        let draft = Draft::new(seed).sized("a", 3);
        let mut world = begin(seed, &draft);
        world.settle();
        let choices = world.choices();
        let name = world.some_node(Standing::In).expect("a node");
        world.stand(&name, Standing::Aside);
        world.settle();
        world.assert_choices_kept(&choices);
        let mut next = draft;
        for _ in 0..2 {
            next = next.edited(&mut world.dice);
            commit(&mut world, &next);
            for _ in 0..world.dice.below(60) {
                world.turn();
            }
        }
        world.settle();
        world.assert_causes();
        world.assert_quiet_on(&name);
        world.all_in();
        world.settle();
        world.assert_converged();
    });
}
