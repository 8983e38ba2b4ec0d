//! The Merkle tree of RFC 6962 §2.1 (RFC 9162 §2.1), with SHA-256.
//!
//! A tree grows by its frontier, the roots of its perfect subtrees: 32 bytes for each bit that
//! is set in its size. Proofs are made in one pass over the leaf hashes: each of their hashes
//! is the root of one range of leaves, and the ranges do not overlap.

use std::ops::Range;

use sha2::{Digest, Sha256};

use crate::AuditError;

pub type Hash = [u8; 32];

/// The root of the tree without leaves: the hash of nothing.
pub const EMPTY_ROOT: Hash = [
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24,
    0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
];

/// Hash of a leaf: `SHA-256(0x00 ‖ entry)`.
pub fn leaf_hash(entry: &[u8]) -> Hash {
    let mut hasher = Sha256::new();
    hasher.update([0]);
    hasher.update(entry);
    hasher.finalize().into()
}

/// Hash of an inner node: `SHA-256(0x01 ‖ left ‖ right)`.
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut hasher = Sha256::new();
    hasher.update([1]);
    hasher.update(left);
    hasher.update(right);
    hasher.finalize().into()
}

/// A tree that grows: its size and the roots of its perfect subtrees, the largest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    roots: Vec<Hash>,
}

impl Frontier {
    /// # Errors
    /// [`AuditError::Frontier`] unless there are 32 bytes for each bit that is set in `size`.
    pub fn from_bytes(size: u64, bytes: &[u8]) -> Result<Self, AuditError> {
        let (roots, rest) = bytes.as_chunks::<32>();
        if !rest.is_empty() || roots.len() as u32 != size.count_ones() {
            return Err(AuditError::Frontier);
        }
        Ok(Self {
            size,
            roots: roots.to_vec(),
        })
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        self.roots.concat()
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf at the right.
    pub fn push(&mut self, leaf: Hash) {
        let mut hash = leaf;
        // Each bit that carries joins two perfect subtrees of one size.
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.roots.pop() {
                hash = node_hash(&left, &hash);
            }
        }
        self.roots.push(hash);
        self.size += 1;
    }

    pub fn root(&self) -> Hash {
        let mut roots = self.roots.iter().rev();
        let Some(last) = roots.next() else {
            return EMPTY_ROOT;
        };
        roots.fold(*last, |right, left| node_hash(left, &right))
    }
}

/// The leaves whose roots are the inclusion proof of leaf `index` in a tree of `size` leaves,
/// in the proof's order (RFC 6962 §2.1.1). None where there is no such leaf.
pub fn inclusion_ranges(index: u64, size: u64) -> Option<Vec<Range<u64>>> {
    if index >= size {
        return None;
    }
    let mut ranges = Vec::new();
    let mut tree = 0..size;
    while tree.end - tree.start > 1 {
        let middle = tree.start + split(tree.end - tree.start);
        if index < middle {
            ranges.push(middle..tree.end);
            tree.end = middle;
        } else {
            ranges.push(tree.start..middle);
            tree.start = middle;
        }
    }
    ranges.reverse();
    Some(ranges)
}

/// As [`inclusion_ranges`], of the proof that the tree of `old` leaves is the beginning of the
/// tree of `new` leaves (RFC 6962 §2.1.2). None where there is no such proof.
pub fn consistency_ranges(old: u64, new: u64) -> Option<Vec<Range<u64>>> {
    if old == 0 || old > new {
        return None;
    }
    let mut ranges = Vec::new();
    let mut tree = 0..new;
    // While the old tree's last subtree is the whole of it, its root is known to the verifier.
    let mut is_whole = true;
    while old < tree.end {
        let middle = tree.start + split(tree.end - tree.start);
        if old <= middle {
            ranges.push(middle..tree.end);
            tree.end = middle;
        } else {
            ranges.push(tree.start..middle);
            tree.start = middle;
            is_whole = false;
        }
    }
    if !is_whole {
        ranges.push(tree);
    }
    ranges.reverse();
    Some(ranges)
}

/// The largest power of two that is smaller than `size`, which is at least 2.
fn split(size: u64) -> u64 {
    1 << (u64::BITS - 1 - (size - 1).leading_zeros())
}

/// Computes the roots of ranges of leaves while the leaves go by in order.
#[derive(Debug)]
pub struct Collector {
    ranges: Vec<(Range<u64>, Frontier)>,
    next: u64,
}

impl Collector {
    pub fn new(ranges: Vec<Range<u64>>) -> Self {
        let empty = |range| (range, Frontier::default());
        Self {
            ranges: ranges.into_iter().map(empty).collect(),
            next: 0,
        }
    }

    pub fn push(&mut self, leaf: Hash) {
        let next = self.next;
        let inside = |(range, _): &&mut (Range<u64>, Frontier)| range.contains(&next);
        if let Some((_, frontier)) = self.ranges.iter_mut().find(inside) {
            frontier.push(leaf);
        }
        self.next += 1;
    }

    /// The proof; none while leaves are missing.
    pub fn finish(self) -> Option<Vec<Hash>> {
        self.ranges
            .into_iter()
            .map(|(range, frontier)| {
                (frontier.size() == range.end - range.start).then(|| frontier.root())
            })
            .collect()
    }
}

/// Whether `proof` shows that `leaf` is leaf `index` of the tree of `size` leaves with `root`
/// (RFC 9162 §2.1.3.2).
pub fn verify_inclusion(leaf: &Hash, index: u64, size: u64, proof: &[Hash], root: &Hash) -> bool {
    if index >= size {
        return false;
    }
    let (mut node, mut last) = (index, size - 1);
    let mut hash = *leaf;
    for sibling in proof {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(sibling, &hash);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    last == 0 && hash == *root
}

/// Whether `proof` shows that the tree `(size, root)` of `old` is the beginning of that of `new`
/// (RFC 9162 §2.1.4.2).
pub fn verify_consistency(old: (u64, &Hash), new: (u64, &Hash), proof: &[Hash]) -> bool {
    let ((old_size, old_root), (new_size, new_root)) = (old, new);
    if old_size == 0 || old_size > new_size {
        return false;
    }
    if old_size == new_size {
        return proof.is_empty() && old_root == new_root;
    }
    let mut path = proof.iter();
    let first = if old_size.is_power_of_two() {
        Some(old_root)
    } else {
        path.next()
    };
    let Some(first) = first else {
        return false;
    };
    let (mut node, mut last) = (old_size - 1, new_size - 1);
    while node & 1 == 1 {
        node >>= 1;
        last >>= 1;
    }
    let (mut old_hash, mut new_hash) = (*first, *first);
    for sibling in path {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            old_hash = node_hash(sibling, &old_hash);
            new_hash = node_hash(sibling, &new_hash);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            new_hash = node_hash(&new_hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    last == 0 && old_hash == *old_root && new_hash == *new_root
}

#[cfg(test)]
mod tests {
    use super::*;
    use data_encoding::HEXLOWER;
    use rand::RngExt;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::SeedableRng;

    /// Leaves and roots of the test vectors of Certificate Transparency (RFC 6962's reference
    /// implementation, `merkletree/merkle_tree_test.cc`).
    const LEAVES: [&str; 8] = [
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    ];
    const ROOTS: [&str; 8] = [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];

    fn hash(hex: &str) -> Hash {
        let bytes = HEXLOWER.decode(hex.as_bytes()).expect("hexadecimal");
        bytes.try_into().expect("32 bytes")
    }

    fn hashes(list: &[&str]) -> Vec<Hash> {
        list.iter().map(|hex| hash(hex)).collect()
    }

    fn published() -> Vec<Hash> {
        LEAVES
            .iter()
            .map(|hex| leaf_hash(&HEXLOWER.decode(hex.as_bytes()).expect("hexadecimal")))
            .collect()
    }

    fn proof(leaves: &[Hash], ranges: Vec<Range<u64>>) -> Vec<Hash> {
        let mut collector = Collector::new(ranges);
        for leaf in leaves {
            collector.push(*leaf);
        }
        collector.finish().expect("all leaves went by")
    }

    fn root(leaves: &[Hash]) -> Hash {
        let mut frontier = Frontier::default();
        for leaf in leaves {
            frontier.push(*leaf);
        }
        frontier.root()
    }

    /// The definition of RFC 6962 §2.1, by recursion.
    fn naive(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => EMPTY_ROOT,
            [only] => *only,
            several => {
                let (left, right) = several.split_at(split(several.len() as u64) as usize);
                node_hash(&naive(left), &naive(right))
            }
        }
    }

    #[test]
    fn the_published_roots() {
        assert_eq!(EMPTY_ROOT, <Hash>::from(Sha256::digest(b"")));
        let leaves = published();
        for (size, expected) in (1..).zip(ROOTS) {
            assert_eq!(root(&leaves[..size]), hash(expected), "size {size}");
        }
    }

    #[test]
    fn the_published_proofs() {
        let leaves = published();
        let (a, b, c) = (
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        );
        let (d, e) = (
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        );
        let f = "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a";
        let inclusion: [(u64, u64, &[&str]); 5] = [
            (0, 1, &[]),
            (0, 8, &[a, b, c]),
            (5, 8, &[d, e, ROOTS[3]]),
            (2, 3, &[ROOTS[1]]),
            (1, 5, &[ROOTS[0], b, d]),
        ];
        for (index, size, expected) in inclusion {
            let made = proof(&leaves, inclusion_ranges(index, size).expect("a leaf"));
            assert_eq!(made, hashes(expected), "leaf {index} of {size}");
        }
        let consistency: [(u64, u64, &[&str]); 4] = [
            (1, 1, &[]),
            (1, 8, &[a, b, c]),
            (6, 8, &[f, e, ROOTS[3]]),
            (2, 5, &[b, d]),
        ];
        for (old, new, expected) in consistency {
            let made = proof(&leaves, consistency_ranges(old, new).expect("a tree"));
            assert_eq!(made, hashes(expected), "{old} in {new}");
        }
    }

    #[test]
    fn proofs_of_random_trees_hold_and_altered_ones_do_not() {
        let mut random = ChaCha8Rng::seed_from_u64(6962);
        for round in 0..300 {
            let size = random.random_range(1..=if round % 10 == 0 { 1_100 } else { 70 });
            let leaves: Vec<Hash> = (0..size).map(|_| random.random()).collect();
            let (size, whole) = (size as u64, root(&leaves));
            assert_eq!(whole, naive(&leaves));
            let index = random.random_range(0..size);
            let leaf = leaves[index as usize];
            let path = proof(&leaves, inclusion_ranges(index, size).expect("a leaf"));
            assert!(verify_inclusion(&leaf, index, size, &path, &whole));
            let old = random.random_range(1..=size);
            let part = root(&leaves[..old as usize]);
            let chain = proof(&leaves, consistency_ranges(old, size).expect("a tree"));
            assert!(verify_consistency((old, &part), (size, &whole), &chain));

            let other: Hash = random.random();
            assert!(!verify_inclusion(&other, index, size, &path, &whole));
            assert!(!verify_inclusion(&leaf, index, size, &path, &other));
            assert!(!verify_inclusion(&leaf, size, size, &path, &whole));
            assert!(!verify_consistency((old, &other), (size, &whole), &chain));
            assert!(!verify_consistency((old, &part), (size, &other), &chain));
            assert!(!verify_consistency((0, &part), (size, &whole), &chain));
            for altered in alterations(&path, &mut random) {
                assert!(!verify_inclusion(&leaf, index, size, &altered, &whole));
            }
            for altered in alterations(&chain, &mut random) {
                assert!(!verify_consistency((old, &part), (size, &whole), &altered));
            }
            if size > 1 {
                let wrong = (index + random.random_range(1..size)) % size;
                assert!(!verify_inclusion(&leaf, wrong, size, &path, &whole));
            }
        }
    }

    /// One hash too many, one too few, one changed.
    fn alterations(proof: &[Hash], random: &mut ChaCha8Rng) -> Vec<Vec<Hash>> {
        let mut altered = vec![[proof, &[random.random()]].concat()];
        if let Some((_, shorter)) = proof.split_last() {
            altered.push(shorter.to_vec());
            let mut changed = proof.to_vec();
            let place = random.random_range(0..changed.len());
            changed[place][random.random_range(0..32_usize)] ^= 1 << random.random_range(0..8_u32);
            altered.push(changed);
        }
        altered
    }

    #[test]
    fn a_frontier_goes_on_where_it_was() {
        let leaves: Vec<Hash> = (0..100_u8).map(|n| leaf_hash(&[n])).collect();
        let mut frontier = Frontier::default();
        for (size, leaf) in (1..).zip(&leaves) {
            frontier.push(*leaf);
            let bytes = frontier.to_bytes();
            let read = Frontier::from_bytes(size, &bytes).expect("fits");
            assert_eq!(read, frontier);
            assert_eq!(read.root(), naive(&leaves[..size as usize]));
            assert!(Frontier::from_bytes(size, &bytes[1..]).is_err());
            assert!(Frontier::from_bytes(size * 2 + 1, &bytes).is_err());
        }
    }
}
