//! A channel that is always closed, whatever becomes of the future that used it.
//!
//! A channel that is merely dropped stays open on the server and counts against its limit of sessions.

use std::collections::VecDeque;

use russh::client::Msg;
use russh::{ChannelMsg, ChannelReadHalf, ChannelWriteHalf};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

/// The writing half.
pub(crate) type Writer = ChannelWriteHalf<Msg>;

/// What comes out of a channel.
#[derive(Debug)]
pub(crate) enum Piece {
    /// Standard output.
    Out(bytes::Bytes),
    /// Standard error.
    Err(bytes::Bytes),
    /// The program ended with this status.
    Exit(u32),
    /// The program was ended by a signal.
    Signal(String),
    /// The server will not run the command.
    Refused,
}

/// An open channel with a program on the other side.
pub(crate) struct Channel {
    read: ChannelReadHalf,
    write: Option<Writer>,
    /// Came while we were sending.
    early: VecDeque<Piece>,
    over: bool,
    closing: mpsc::UnboundedSender<Closing>,
    slot: Option<OwnedSemaphorePermit>,
}

/// A channel to be closed, and its place among those that may be open, which is free only then.
pub(crate) struct Closing {
    pub(crate) writer: Writer,
    _slot: Option<OwnedSemaphorePermit>,
}

impl Channel {
    pub(crate) fn new(
        read: ChannelReadHalf,
        write: Writer,
        slot: OwnedSemaphorePermit,
        closing: mpsc::UnboundedSender<Closing>,
    ) -> Self {
        Self { read, write: Some(write), early: VecDeque::new(), over: false, closing, slot: Some(slot) }
    }

    /// Asks for the command without waiting for the answer, which comes as a piece if it is no.
    pub(crate) async fn start(&self, command: &str) -> Result<(), russh::Error> {
        self.writer().exec(true, command).await
    }

    /// To standard input. What comes meanwhile is kept for [`Self::next`], so that neither side waits for the other;
    /// ends early without an error when the channel ends.
    pub(crate) async fn send(&mut self, bytes: impl Into<bytes::Bytes>) -> Result<(), russh::Error> {
        let Self { read, write, early, over, .. } = self;
        let sending = write.as_ref().expect("taken only when dropped").data_bytes(bytes);
        tokio::pin!(sending);
        while !*over {
            tokio::select! {
                sent = &mut sending => return sent,
                piece = next(read) => match piece {
                    Some(piece) => early.push_back(piece),
                    None => *over = true,
                },
            }
        }
        Ok(())
    }

    /// No more input comes.
    pub(crate) async fn finish(&self) -> Result<(), russh::Error> {
        self.writer().eof().await
    }

    /// The next piece; `None` when the channel is over. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<Piece> {
        if let Some(piece) = self.early.pop_front() {
            return Some(piece);
        }
        if self.over {
            return None;
        }
        let piece = next(&mut self.read).await;
        self.over = piece.is_none();
        piece
    }

    fn writer(&self) -> &Writer {
        self.write.as_ref().expect("taken only when dropped")
    }
}

async fn next(read: &mut ChannelReadHalf) -> Option<Piece> {
    loop {
        match read.wait().await {
            Some(ChannelMsg::Data { data }) => return Some(Piece::Out(data)),
            Some(ChannelMsg::ExtendedData { data, .. }) => return Some(Piece::Err(data)),
            Some(ChannelMsg::ExitStatus { exit_status }) => return Some(Piece::Exit(exit_status)),
            Some(ChannelMsg::ExitSignal { signal_name, .. }) => return Some(Piece::Signal(format!("{signal_name:?}"))),
            Some(ChannelMsg::Failure) => return Some(Piece::Refused),
            Some(ChannelMsg::Close) | None => return None,
            Some(_) => {}
        }
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        if let Some(write) = self.write.take().filter(|_| !self.over) {
            // The receiver is gone only when the connection is, and every channel with it.
            let _ = self.closing.send(Closing { writer: write, _slot: self.slot.take() });
        }
    }
}
