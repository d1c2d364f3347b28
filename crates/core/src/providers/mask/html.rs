//! Texts in which characters are written as HTML's references: `&amp;`, `&#38;`, `&#x26;`.

use std::ops::Range;

/// So often a text is read anew: what escapes an escaped text makes `&amp;amp;` of `&`.
const DEPTH: u32 = 2;

/// The longest reference that is read as one, in bytes.
const LONGEST_REFERENCE: usize = 12;

/// Whether some common escaper writes a character of it as a reference.
pub fn is_escaped(text: &str) -> bool {
    text.chars().any(|c| !c.is_ascii() || "&<>\"'/=`+".contains(c))
}

/// Where one of `wanted` stands in the text with at least one character as a reference, in order; they do not overlap.
pub fn find(text: &str, wanted: &[String]) -> Vec<Range<usize>> {
    let mut found = find_at_depth(text, wanted, DEPTH);
    found.sort_by_key(|range| range.start);
    found.dedup_by(|next, range| {
        let overlaps = next.start < range.end;
        range.end = if overlaps { range.end.max(next.end) } else { range.end };
        overlaps
    });
    found
}

fn find_at_depth(text: &str, wanted: &[String], depth: u32) -> Vec<Range<usize>> {
    let Some(read) = (depth > 0 && !wanted.is_empty()).then(|| Read::of(text)).flatten() else { return Vec::new() };
    let here = wanted.iter().flat_map(|wanted| read.text.match_indices(wanted).map(|(at, found)| at..at + found.len()));
    let deeper = find_at_depth(&read.text, wanted, depth - 1);
    here.chain(deeper).map(|range| read.written_at(range.start)..read.written_at(range.end)).collect()
}

/// A text as it is read, and where what stands in it is written.
struct Read {
    text: String,
    /// The end of each reference: in the text as it is read, and as it is written.
    ends: Vec<(usize, usize)>,
}

impl Read {
    /// None: there is no reference in it.
    fn of(written: &str) -> Option<Self> {
        let mut read = Read { text: String::new(), ends: Vec::new() };
        let mut taken = 0;
        for (at, _) in written.match_indices('&') {
            if let Some((c, length)) = reference(&written[at..]) {
                read.text.push_str(&written[taken..at]);
                read.text.push(c);
                taken = at + length;
                read.ends.push((read.text.len(), taken));
            }
        }
        read.text.push_str(&written[taken..]);
        (!read.ends.is_empty()).then_some(read)
    }

    fn written_at(&self, at: usize) -> usize {
        let before = self.ends.partition_point(|(read, _)| *read <= at);
        let (read, written) = before.checked_sub(1).map_or((0, 0), |last| self.ends[last]);
        written + (at - read)
    }
}

/// The character for which a text's beginning stands, and the length of that.
fn reference(text: &str) -> Option<(char, usize)> {
    let end = text.bytes().take(LONGEST_REFERENCE).position(|byte| byte == b';')?;
    let name = text[1..end].to_ascii_lowercase();
    let c = match name.as_str() {
        "amp" => '&',
        "lt" => '<',
        "gt" => '>',
        "quot" => '"',
        "apos" => '\'',
        _ => {
            let number = name.strip_prefix('#')?;
            let code = match number.strip_prefix('x') {
                Some(digits) => u32::from_str_radix(digits, 16),
                None => number.parse(),
            };
            char::from_u32(code.ok()?)?
        }
    };
    Some((c, end + 1))
}
