//! What an operation below the engine was started for.

/// What an operation of UCX was started for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine::worker) enum Token {
    /// An operation in flight; its id.
    Op(u64),
    /// A flush of the endpoint for an operation; its id.
    Flushed(u64),
    /// Bytes on their way into a buffer; an id of `Core::incoming`.
    Incoming(u64),
    /// A frame of ours that nobody waits for.
    Frame,
    /// A reply with bytes; the peer's id.
    Served(u64),
}

const KIND: u32 = 61;
const ID: u64 = (1 << KIND) - 1;

impl Token {
    /// One number for UCX; ids leave the three highest bits free.
    pub fn pack(self) -> u64 {
        match self {
            Token::Op(id) => id & ID,
            Token::Flushed(id) => 1 << KIND | id & ID,
            Token::Incoming(id) => 2 << KIND | id & ID,
            Token::Served(id) => 3 << KIND | id & ID,
            Token::Frame => 4 << KIND,
        }
    }

    pub(super) fn unpack(packed: u64) -> Token {
        let id = packed & ID;
        match packed >> KIND {
            0 => Token::Op(id),
            1 => Token::Flushed(id),
            2 => Token::Incoming(id),
            3 => Token::Served(id),
            _ => Token::Frame,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Token;

    #[test]
    fn tokens_survive_the_way_through_ucx() {
        let id = ((1 << 29) - 1) << 32 | 7;
        for token in [Token::Op(id), Token::Flushed(id), Token::Incoming(id), Token::Served(id), Token::Frame]
        {
            assert_eq!(Token::unpack(token.pack()), token);
        }
    }
}
