//! [`Command`]: what workers ask of the control thread; [`Answer`]: what it owes them.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use super::link::Link;
use super::listener::Sockets;
use super::message::TICKET;
use super::notice::{Attach, KeyAsk, KeyGrant, Notice, Notices};
use crate::status::{Error, Result, Status};

/// One request to the control thread.
pub(crate) enum Command {
    Listen {
        id: u32,
        sockets: Sockets,
        inbox: Arc<Notices>,
        user_data: u64,
    },
    CloseListener {
        id: u32,
        /// Dropped when its sockets are closed.
        closed: Sender<()>,
    },
    Dial {
        address: String,
        answer: Answer,
    },
    /// From a resolver thread.
    Resolved {
        dial: u32,
        result: Result<Vec<std::net::SocketAddr>>,
    },
    Attach {
        link: Arc<Link>,
        ours: Attach,
        answer: Answer,
    },
    AcceptAttach {
        link: Arc<Link>,
        request: u32,
        inbox: Arc<Notices>,
        ours: Attach,
        credits: u32,
    },
    RefuseAttach {
        link: Arc<Link>,
        request: u32,
        status: Status,
        text: String,
    },
    Detach {
        link: Arc<Link>,
        route: u32,
        status: Status,
    },
    SendCredits {
        link: Arc<Link>,
        route: u32,
        count: u32,
    },
    OfferRing {
        link: Arc<Link>,
        route: u32,
        ends: [OwnedFd; 2],
    },
    ExpectStream {
        link: Arc<Link>,
        route: u32,
        inbox: Arc<Notices>,
        ticket: [u8; TICKET],
    },
    OpenStream {
        link: Arc<Link>,
        route: u32,
        inbox: Arc<Notices>,
        ticket: [u8; TICKET],
    },
    AskCredits {
        link: Arc<Link>,
        route: u32,
    },
    RefuseCredits {
        link: Arc<Link>,
        route: u32,
        status: Status,
    },
    Import {
        link: Arc<Link>,
        ask: KeyAsk,
        answer: Answer,
    },
    DropKey {
        link: Arc<Link>,
        export_id: u64,
    },
    Revoked {
        link: Arc<Link>,
        export_id: u64,
    },
    CloseLink {
        link: Arc<Link>,
    },
    BreakLink {
        link: Arc<Link>,
        status: Status,
        text: String,
    },
    Forget {
        inbox: Arc<Notices>,
    },
    Stop,
    #[cfg(any(test, debug_assertions))]
    Panic,
}

impl Command {
    /// Answers a command that will not be carried out; those without an answer are dropped.
    pub fn refuse(self, error: &Error) {
        match self {
            Command::Dial { answer, .. }
            | Command::Attach { answer, .. }
            | Command::Import { answer, .. } => {
                answer.fail(error.clone());
            }
            _ => {}
        }
    }
}

/// An answer that is owed. It is given exactly once: dropping it, also while a panic unwinds, answers `Internal`.
#[derive(Debug)]
pub(crate) struct Answer {
    inbox: Arc<Notices>,
    to: Option<To>,
}

#[derive(Debug)]
enum To {
    Dial { token: u64 },
    Attach { link: Arc<Link>, route: u32 },
    Import { token: u64, export_id: u64 },
}

impl Answer {
    pub fn to_dial(inbox: &Arc<Notices>, token: u64) -> Answer {
        Answer { inbox: inbox.clone(), to: Some(To::Dial { token }) }
    }

    pub fn to_attach(inbox: &Arc<Notices>, link: &Arc<Link>, route: u32) -> Answer {
        Answer { inbox: inbox.clone(), to: Some(To::Attach { link: link.clone(), route }) }
    }

    pub fn to_import(inbox: &Arc<Notices>, token: u64, export_id: u64) -> Answer {
        Answer { inbox: inbox.clone(), to: Some(To::Import { token, export_id }) }
    }

    /// Who waits for it.
    pub fn inbox(&self) -> &Arc<Notices> {
        &self.inbox
    }

    /// The route, of an attach.
    pub fn route(&self) -> Option<u32> {
        match &self.to {
            Some(To::Attach { route, .. }) => Some(*route),
            _ => None,
        }
    }

    /// Whether an import waits for it.
    pub fn is_import(&self) -> bool {
        matches!(self.to, Some(To::Import { .. }))
    }

    /// The export, of an import.
    pub fn export_id(&self) -> Option<u64> {
        match &self.to {
            Some(To::Import { export_id, .. }) => Some(*export_id),
            _ => None,
        }
    }

    pub fn fail(mut self, error: Error) {
        self.give(Err(error), |_| None);
    }

    pub fn link_up(mut self, link: &Arc<Link>) {
        self.give(Ok(()), |to| match to {
            To::Dial { token } => Some(Notice::LinkUp { token: *token, link: link.clone() }),
            _ => None,
        });
    }

    pub fn attached(mut self, peer: Attach, credits: u32) {
        self.give(Ok(()), |to| match to {
            To::Attach { link, route } => {
                Some(Notice::Attached { link: link.clone(), route: *route, peer, credits })
            }
            _ => None,
        });
    }

    pub fn imported(mut self, grant: KeyGrant) {
        self.give(Ok(()), |to| match to {
            To::Import { token, .. } => Some(Notice::Imported { token: *token, result: Ok(grant) }),
            _ => None,
        });
    }

    fn give(&mut self, result: Result<()>, notice: impl FnOnce(&To) -> Option<Notice>) {
        let Some(to) = self.to.take() else { return };
        let failed = |error: Error| match &to {
            To::Dial { token } => Notice::DialFailed { token: *token, error },
            To::Attach { link, route } => Notice::AttachRefused { link: link.clone(), route: *route, error },
            To::Import { token, .. } => Notice::Imported { token: *token, result: Err(error) },
        };
        let notice = match result {
            Ok(()) => notice(&to).unwrap_or_else(|| failed(Status::Internal.into())),
            Err(error) => failed(error),
        };
        tell(&self.inbox, notice);
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.give(Err(Status::Internal.into()), |_| None);
    }
}

/// Puts a notice into an inbox; one that was closed wants no more.
pub(super) fn tell(inbox: &Arc<Notices>, notice: Notice) {
    let _ = inbox.push(notice);
}
