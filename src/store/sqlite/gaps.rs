//! Cleans what SQLite leaves inside pages: copies of rows that have moved to another page.
//!
//! `secure_delete` overwrites a row where it is deleted. But when pages are split or joined, SQLite rebuilds them and
//! leaves old bytes in the gap between the list of cells and the first cell (see "B-tree Pages" in the SQLite file
//! format). A row that is erased later lives on there. Nothing ever reads a gap, so it can be overwritten in the file,
//! while the write-ahead log is empty and nobody writes. Only gaps are touched here.

use std::{fs::File, io, os::unix::fs::FileExt};

/// From this page number on the first byte of an overflow page (a page number, big end first) could pass for the type
/// of a b-tree page. At 4 KiB a page that is a file of 128 GiB.
pub const PAGES_MAX: u64 = 0x0200_0000;
/// Bytes that are read at once.
const READ_BYTES: usize = 1 << 20;
/// Bytes of the file header, on the first page before the page's own.
const FILE_HEADER_BYTES: usize = 100;

/// Overwrites every gap that has something in it; answers how many, or `None` where the file is too large to tell
/// pages apart.
pub fn clean(file: &File) -> io::Result<Option<usize>> {
    let mut header = [0; FILE_HEADER_BYTES];
    file.read_exact_at(&mut header, 0)?;
    let page_bytes = match u16::from_be_bytes([header[16], header[17]]) {
        1 => 65_536,
        bytes => usize::from(bytes),
    };
    let usable = page_bytes - usize::from(header[20]);
    let pages = file.metadata()?.len() / page_bytes as u64;
    if pages >= PAGES_MAX {
        return Ok(None);
    }
    let pages_at_once = (READ_BYTES / page_bytes).max(1);
    let mut buffer = vec![0; pages_at_once * page_bytes];
    let mut cleaned = 0;
    let mut first = 0;
    while first < pages {
        let count = (pages - first).min(pages_at_once as u64) as usize;
        let bytes = &mut buffer[..count * page_bytes];
        file.read_exact_at(bytes, first * page_bytes as u64)?;
        for (i, page) in bytes.chunks(page_bytes).enumerate() {
            let number = first + i as u64;
            let start = if number == 0 { FILE_HEADER_BYTES } else { 0 };
            let Some((from, to)) = gap(&page[..usable], start) else { continue };
            if page[from..to].iter().any(|byte| *byte != 0) {
                file.write_all_at(&vec![0; to - from], number * page_bytes as u64 + from as u64)?;
                cleaned += 1;
            }
        }
        first += count as u64;
    }
    if cleaned > 0 {
        file.sync_all()?;
    }
    Ok(Some(cleaned))
}

/// The unused bytes between the list of cells and the first cell of a b-tree page, whose header is at `start`.
fn gap(page: &[u8], start: usize) -> Option<(usize, usize)> {
    let header_bytes = match page[start] {
        // Interior pages of an index and of a table; leaves of both.
        2 | 5 => 12,
        10 | 13 => 8,
        _ => return None,
    };
    let number = |at: usize| usize::from(u16::from_be_bytes([page[at], page[at + 1]]));
    let cells = number(start + 3);
    let content = match number(start + 5) {
        0 => 65_536,
        content => content,
    };
    let list = start + header_bytes;
    let end = list + 2 * cells;
    if end > content || content > page.len() {
        return None;
    }
    let inside = |at: usize| (content..page.len()).contains(&number(at));
    (0..cells).all(|i| inside(list + 2 * i)).then_some((end, content))
}
