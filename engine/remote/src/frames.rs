//! Frames out of a stream of bytes that comes in pieces.
//!
//! A login shell that prints something before the agent starts is a common accident; what comes before the hello is
//! passed over, up to a limit.

use engine_agent::protocol::{MAX_FRAME, Reply};

/// How much noise before the hello is passed over.
const MAX_NOISE: usize = 64 << 10;
/// How the body of a hello begins.
const HELLO: &[u8] = br#"{"reply":"hello""#;

/// Collects bytes, gives replies.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    buffer: Vec<u8>,
    start: usize,
    greeted: bool,
}

impl Frames {
    /// More bytes have come.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 && self.start == self.buffer.len() {
            self.buffer.clear();
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next reply that is complete, or what is wrong with the stream.
    pub(crate) fn next(&mut self) -> Result<Option<Reply>, String> {
        if !self.greeted && !self.skip_noise()? {
            return Ok(None);
        }
        let rest = &self.buffer[self.start..];
        let Some((length, body)) = rest.split_first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_be_bytes(*length);
        if length > MAX_FRAME {
            return Err(format!("a frame of {length} bytes is larger than allowed"));
        }
        let Some(body) = body.get(..length as usize) else { return Ok(None) };
        let reply = serde_json::from_slice(body).map_err(|error| format!("a frame is not a reply: {error}"))?;
        self.start += 4 + length as usize;
        if self.start > 1 << 20 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        Ok(Some(reply))
    }

    /// What came before a hello, as text for a message.
    pub(crate) fn noise(&self) -> String {
        String::from_utf8_lossy(&self.buffer[self.start..self.buffer.len().min(self.start + 200)]).trim().to_owned()
    }

    fn skip_noise(&mut self) -> Result<bool, String> {
        let found = self.buffer.windows(HELLO.len()).position(|window| window == HELLO);
        match found {
            Some(at) if at >= 4 => {
                self.start = at - 4;
                self.greeted = true;
                Ok(true)
            }
            _ if self.buffer.len() > MAX_NOISE => Err(format!("instead of a hello came `{}`", self.noise())),
            _ => Ok(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine_agent::protocol::encode;

    fn hello() -> Reply {
        Reply::Hello { protocol: 1, version: "0".into(), incarnation: "i".into(), boot_id: "b".into() }
    }

    fn check(bytes: &[u8], piece: usize) -> Vec<String> {
        let mut frames = Frames::default();
        let mut seen = Vec::new();
        for part in bytes.chunks(piece) {
            frames.push(part);
            while let Some(reply) = frames.next().unwrap() {
                seen.push(serde_json::to_value(&reply).unwrap()["reply"].as_str().unwrap().to_owned());
            }
        }
        seen
    }

    #[test]
    fn frames_come_out_whatever_the_pieces() {
        let mut bytes = b"Welcome to this machine!\nYou have mail.\n".to_vec();
        bytes.extend(encode(&hello()).unwrap());
        for _ in 0..20 {
            bytes.extend(encode(&Reply::Ok).unwrap());
        }
        for piece in [1, 3, 7, 100, 5000] {
            let seen = check(&bytes, piece);
            assert_eq!(seen.len(), 21);
            assert_eq!(seen[0], "hello");
            assert!(seen[1..].iter().all(|reply| reply == "ok"));
        }
    }

    #[test]
    fn endless_noise_is_an_error_that_shows_it() {
        let mut frames = Frames::default();
        frames.push(&b"insert coin ".repeat(10_000));
        assert!(frames.next().unwrap_err().contains("insert coin"));
    }

    #[test]
    fn a_huge_frame_is_refused_before_it_is_collected() {
        let mut frames = Frames::default();
        frames.push(&encode(&hello()).unwrap());
        frames.push(&[0xff, 0xff, 0xff, 0xff]);
        assert!(frames.next().unwrap().is_some());
        assert!(frames.next().unwrap_err().contains("larger"));
    }
}
