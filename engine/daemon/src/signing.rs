//! Certificates that people ask for over the API: authorities that are open, and what was signed on its way into the database.
//!
//! What is signed is told when it is durable and its authority stood by it at that moment; so an authority may be kept open
//! here although it goes over to another key, or is gone, elsewhere. Deliberately absent: what is signed for nodes, which is
//! the work of a driver.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use engine_core::settle::turn::Failure;
use engine_pki::Signer;
use engine_pki::authority::Permitted;
use engine_store::pki::{self, Authority, Request};
use engine_store::{StoreError, rotation};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::run::driver::pki::{form, open};
use crate::shared::Shared;

/// Certificates that share a commit at most.
const MOST: usize = 500;
/// Certificates that wait for one.
const WAITING: usize = 4096;
/// Authorities that are kept open.
const OPEN: usize = 64;

/// A certificate and who waits for it. `false`: its authority does not stand by it.
pub(crate) type Asked = (Request, oneshot::Sender<Result<bool, Failure>>);

/// An authority whose key is at hand.
pub(crate) struct Open {
    pub(crate) authority: Authority,
    pub(crate) signer: Signer,
    pub(crate) permitted: Permitted,
    issued: AtomicI64,
}

impl Open {
    /// The part of the next certificate.
    pub(crate) fn part(&self) -> i32 {
        pki::part(self.issued.fetch_add(1, Ordering::Relaxed))
    }
}

/// Deployment and role.
type Place = (String, String);

/// Open authorities, and the way to whoever writes.
pub(crate) struct Signing {
    open: Mutex<HashMap<Place, Arc<Open>>>,
    written: mpsc::Sender<Asked>,
}

impl Signing {
    pub(crate) fn new() -> (Self, mpsc::Receiver<Asked>) {
        let (written, receiver) = mpsc::channel(WAITING);
        (Self { open: Mutex::default(), written }, receiver)
    }

    /// The authority of a role that signs. `None`: there is none.
    pub(crate) async fn of(&self, shared: &Shared, name: &str, role: &str) -> Result<Option<Arc<Open>>, StoreError> {
        let place = (name.to_owned(), role.to_owned());
        if let Some(open) = self.kept().get(&place) {
            return Ok(Some(Arc::clone(open)));
        }
        let Some((_, vertex)) = rotation::find(&shared.pool, name, role).await? else { return Ok(None) };
        let Some(authority) = pki::of_vertex(&shared.pool, vertex).await? else { return Ok(None) };
        // What was made here can be read here.
        let (Ok(signer), Ok(form)) = (open(shared, &authority)?, form(&authority)) else { return Ok(None) };
        let issued = AtomicI64::new(authority.issued);
        let open = Arc::new(Open { authority, signer, permitted: form.permitted, issued });
        let mut kept = self.kept();
        if kept.len() >= OPEN {
            kept.clear();
        }
        kept.insert(place, Arc::clone(&open));
        Ok(Some(open))
    }

    /// How many certificates wait to be kept.
    pub(crate) fn waiting(&self) -> usize {
        self.written.max_capacity() - self.written.capacity()
    }

    /// It does not sign any more.
    pub(crate) fn forget(&self, name: &str, role: &str) {
        self.kept().remove(&(name.to_owned(), role.to_owned()));
    }

    /// Keeps what was signed; durable when it returns. `None` if the engine ends meanwhile.
    pub(crate) async fn keep(&self, request: Request) -> Option<Result<bool, Failure>> {
        let (answer, done) = oneshot::channel();
        self.written.send((request, answer)).await.ok()?;
        done.await.ok()
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, HashMap<Place, Arc<Open>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes what was signed, all that wait in one transaction. Who asked is told what went wrong, and asks again.
pub(crate) async fn write(shared: Arc<Shared>, mut asked: mpsc::Receiver<Asked>, stop: CancellationToken) {
    let mut batch = Vec::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            count = asked.recv_many(&mut batch, MOST) => if count == 0 { return },
        }
        let (requests, answers): (Vec<Request>, Vec<_>) = batch.drain(..).unzip();
        let kept: Result<HashSet<String>, Failure> = pki::keep_all(&shared.pool, &requests)
            .await
            .map_err(|error| Failure { code: error.code().to_owned(), message: error.to_string() });
        for (request, answer) in requests.iter().zip(answers) {
            let told = kept.as_ref().map(|kept| kept.contains(&request.signed.serial)).map_err(Clone::clone);
            // Who does not wait any more asks again.
            let _ = answer.send(told);
        }
    }
}
