//! RLE Lossless (PS3.5 annex G): one segment a byte plane, most significant byte first, PackBits
//! row by row.

/// Encodes one frame. `planes` are the byte planes in the order of the segments, each of
/// `columns` bytes a row. None when the frame has no plane or more than 15.
pub fn encode(planes: &[Vec<u8>], columns: usize) -> Option<Vec<u8>> {
    const HEADER_BYTES: usize = 64;
    const SEGMENTS_MAX: usize = 15;
    if planes.is_empty() || planes.len() > SEGMENTS_MAX || columns == 0 {
        return None;
    }
    let mut header = vec![planes.len() as u32];
    let mut body = Vec::new();
    for plane in planes {
        header.push((HEADER_BYTES + body.len()) as u32);
        for row in plane.chunks(columns) {
            pack(row, &mut body);
        }
        if body.len() % 2 == 1 {
            body.push(0);
        }
    }
    header.resize(HEADER_BYTES / 4, 0);
    let mut frame: Vec<u8> = header.into_iter().flat_map(u32::to_le_bytes).collect();
    frame.append(&mut body);
    Some(frame)
}

/// PackBits: a run of 2 to 128 equal bytes is `257 - n, byte`, other bytes `n - 1, bytes`.
fn pack(row: &[u8], out: &mut Vec<u8>) {
    const RUN_MAX: usize = 128;
    let run = |from: usize| -> usize {
        let rest = row.get(from..).unwrap_or_default();
        let first = rest.first();
        rest.iter()
            .take(RUN_MAX)
            .take_while(|byte| Some(*byte) == first)
            .count()
    };
    let mut at = 0;
    while at < row.len() {
        let length = run(at);
        if length >= 2 {
            out.push((257 - length) as u8);
            out.extend(row.get(at));
            at += length;
            continue;
        }
        let start = at;
        while at < row.len() && at - start < RUN_MAX && run(at) < 3 {
            at += 1;
        }
        let literal = row.get(start..at).unwrap_or_default();
        out.push((literal.len() - 1) as u8);
        out.extend_from_slice(literal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unpack(mut packed: &[u8], length: usize) -> Vec<u8> {
        let mut out = Vec::new();
        while out.len() < length {
            let control = packed[0] as i8;
            if control >= 0 {
                let count = control as usize + 1;
                out.extend_from_slice(&packed[1..=count]);
                packed = &packed[count + 1..];
            } else {
                let count = 1 - isize::from(control);
                out.extend(std::iter::repeat_n(packed[1], count as usize));
                packed = &packed[2..];
            }
        }
        out
    }

    #[test]
    fn rows_come_back() {
        let rows: [Vec<u8>; 5] = [
            vec![7; 300],
            (0..=255).chain(0..=255).collect(),
            vec![1, 1, 2, 2, 2, 3, 4, 4, 5],
            vec![9],
            (0..400).map(|n: u32| (n * n / 7 % 3) as u8).collect(),
        ];
        for row in rows {
            let frame = encode(std::slice::from_ref(&row), row.len()).expect("one plane");
            assert_eq!(&frame[..8], [1, 0, 0, 0, 64, 0, 0, 0]);
            assert_eq!(frame.len() % 2, 0);
            assert_eq!(unpack(&frame[64..], row.len()), row);
        }
    }
}
