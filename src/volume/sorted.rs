//! Search in a file of rows that are sorted by id: `.sdx`, `.ecx`.

use crate::status::{Error, Result, Status};
use crate::volume::row::{Row, RowWidth};

/// The row of `id` in a sorted file of `length` bytes. `read` fills a row from an offset and says how many bytes it
/// got. Takes at most 64 reads, whatever the content. Errors: `Stale` when the file is shorter than `length`, and
/// those of `read`.
pub fn search(
    width: RowWidth,
    length: u64,
    id: u64,
    mut read: impl FnMut(u64, &mut [u8]) -> Result<usize>,
) -> Result<Option<Row>> {
    let step = width.bytes();
    let (mut low, mut high) = (0, length / step as u64);
    while low < high {
        let middle = low + (high - low) / 2;
        let mut bytes = [0; 17];
        let got = read(middle * step as u64, &mut bytes[..step])?;
        let row = bytes.get(..got).and_then(|bytes| Row::decode(width, bytes));
        let row = row.ok_or_else(|| Error::new(Status::Stale, "the sorted index became shorter"))?;
        match row.id.cmp(&id) {
            std::cmp::Ordering::Equal => return Ok(Some(row)),
            std::cmp::Ordering::Less => low = middle + 1,
            std::cmp::Ordering::Greater => high = middle,
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_every_row_and_no_other() {
        for width in [RowWidth::Sixteen, RowWidth::Seventeen] {
            for count in 0..20_u64 {
                let mut file = Vec::new();
                for id in 0..count {
                    file.extend_from_slice(&(id * 2 + 1).to_be_bytes());
                    file.resize(file.len() + width.bytes() - 9, 0);
                    file.push(id as u8);
                }
                let read = |at: u64, row: &mut [u8]| {
                    let rest = &file[at as usize..];
                    row.copy_from_slice(&rest[..row.len()]);
                    Ok(row.len())
                };
                for id in 0..=count {
                    let length = file.len() as u64 + 5;
                    let found = search(width, length, id * 2 + 1, read).unwrap();
                    assert_eq!(found.map(|row| row.size), (id < count).then_some(id as i32));
                    assert_eq!(search(width, length, id * 2, read).unwrap(), None);
                }
            }
        }
    }

    #[test]
    fn a_file_that_shrinks_is_stale() {
        let error = search(RowWidth::Sixteen, 160, 7, |_, _| Ok(3)).unwrap_err();
        assert_eq!(error.status, Status::Stale);
    }
}
