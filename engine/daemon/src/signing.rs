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
use engine_store::connect::Own;
use engine_store::pki::{self, Authority, Request};
use engine_store::{StoreError, rotation};

use crate::gather::{Down, Gather, Gathered, Write, gather};
use crate::run::driver::pki::{form, open};
use crate::shared::Shared;

/// Authorities that are kept open.
const OPEN: usize = 64;

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
    written: Gather<Request, bool>,
}

impl Signing {
    pub(crate) fn new() -> (Self, Gathered<Request, bool>) {
        let (written, asked) = gather();
        (Self { open: Mutex::default(), written }, asked)
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
        let (Ok(signer), Ok(form)) = (open(shared, &authority)?, form(&authority.founded_as)) else { return Ok(None) };
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
        self.written.waiting()
    }

    /// It does not sign any more.
    pub(crate) fn forget(&self, name: &str, role: &str) {
        self.kept().remove(&(name.to_owned(), role.to_owned()));
    }

    /// Keeps what was signed; durable when it returns. `false`: its authority does not stand by it. `None` if the engine ends
    /// meanwhile.
    pub(crate) async fn keep(&self, request: Request) -> Option<Result<bool, Failure>> {
        self.written.ask(request).await
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, HashMap<Place, Arc<Open>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes what was signed. Who asked is told what went wrong, and asks again.
pub(crate) struct Signed(pub(crate) Own);

impl Write for Signed {
    type Asked = Request;
    type Answer = bool;

    const DOWN: Down = Down::Fails;

    async fn write(&mut self, requests: &[Request]) -> Result<Vec<bool>, StoreError> {
        let mut connection = self.0.take().await?;
        let kept: HashSet<String> = pki::keep_all(&mut connection, requests).await?;
        self.0.keep(connection);
        Ok(requests.iter().map(|request| kept.contains(&request.signed.serial)).collect())
    }
}
