//! Rows of `.idx`, `.sdx` and `.ecx` files.

/// Offsets are stored in units of this many bytes, and records start at multiples of it.
pub const OFFSET_UNIT: u64 = 8;

/// Bytes of a row. It is a property of the program that wrote the file, not written in the file itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RowWidth {
    /// 4-byte offsets: volumes up to 32 GiB.
    Sixteen = 16,
    /// 5-byte offsets (`*_large_disk` builds): volumes up to 8 TiB.
    Seventeen = 17,
}

impl RowWidth {
    /// Its length in bytes.
    pub fn bytes(self) -> usize {
        self as usize
    }

    /// The width that goes with offsets of this many bytes, as `.vif` tells them.
    pub fn from_offset_bytes(bytes: u32) -> Option<RowWidth> {
        match bytes {
            4 => Some(RowWidth::Sixteen),
            5 => Some(RowWidth::Seventeen),
            _ => None,
        }
    }
}

/// One row: needle `id` is, or is no longer, at `offset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Row {
    /// The needle.
    pub id: u64,
    /// In units of [`OFFSET_UNIT`]; below 2^40. 0 is nowhere.
    pub offset: u64,
    /// The size field of the record; negative for a deletion.
    pub size: i32,
}

impl Row {
    /// Decodes one row of exactly `width` bytes; None for another length. Every content is a valid row.
    pub fn decode(width: RowWidth, bytes: &[u8]) -> Option<Row> {
        if bytes.len() != width.bytes() {
            return None;
        }
        let (id, rest) = bytes.split_first_chunk()?;
        let (low, rest) = rest.split_first_chunk()?;
        let (high, size) = match width {
            RowWidth::Sixteen => (0, rest.first_chunk()?),
            RowWidth::Seventeen => (*rest.first()?, rest.get(1..)?.first_chunk()?),
        };
        Some(Row {
            id: u64::from_be_bytes(*id),
            offset: u64::from(high) << 32 | u64::from(u32::from_be_bytes(*low)),
            size: i32::from_be_bytes(*size),
        })
    }

    /// Every whole row of `bytes`, in order; a cut-off row at the end is left out.
    pub fn decode_all(width: RowWidth, bytes: &[u8]) -> impl Iterator<Item = Row> + '_ {
        bytes.chunks_exact(width.bytes()).filter_map(move |row| Row::decode(width, row))
    }

    /// Whether the row says that the needle is there; otherwise it says that it was deleted.
    pub fn is_live(&self) -> bool {
        self.offset != 0 && self.size >= 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_widths() {
        let four = [0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 3, 0, 0, 4, 5];
        assert_eq!(Row::decode(RowWidth::Sixteen, &four), Some(Row { id: 258, offset: 3, size: 1029 }));
        let five = [0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 3, 7, 255, 255, 255, 255];
        let row = Row::decode(RowWidth::Seventeen, &five).unwrap();
        assert_eq!(row, Row { id: 258, offset: 7 << 32 | 3, size: -1 }, "the high byte comes last");
        assert!(!row.is_live());
        assert_eq!(Row::decode(RowWidth::Sixteen, &five), None);
        assert_eq!(Row::decode_all(RowWidth::Sixteen, &[four, four, four].concat()[..47]).count(), 2);
    }

    #[test]
    fn live_or_deleted() {
        let live = |offset, size| Row { id: 1, offset, size }.is_live();
        assert!(live(1, 0), "an empty file");
        assert!(live(1, 9));
        assert!(!live(0, 9));
        assert!(!live(1, -1));
        assert!(!live(1, i32::MIN));
    }
}
