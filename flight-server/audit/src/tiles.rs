//! The tree as tiles: files of up to 256 hashes, from which anybody makes proofs of their own
//! (C2SP tlog-tiles, <https://c2sp.org/tlog-tiles>).
//!
//! The tile of level 0 with number n has the leaf hashes 256·n to 256·n + 255; one of level l + 1
//! has the roots of 256 full tiles of level l. The last of a level may be partial.

use crate::merkle::{Frontier, Hash};

/// Hashes of a full tile.
const WIDTH: usize = 256;

/// A file of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tile {
    /// `tile/<level>/<number>`, and `.p/<hashes>` for a partial one.
    pub path: String,
    /// The hashes, 32 bytes each.
    pub bytes: Vec<u8>,
}

/// Makes tiles while the leaves go by in order.
#[derive(Clone, Debug, Default)]
pub struct Tiles {
    /// By level.
    levels: Vec<Level>,
}

#[derive(Clone, Debug, Default)]
struct Level {
    /// Tiles that are full.
    full: u64,
    hashes: Vec<Hash>,
}

impl Tiles {
    /// Takes the next leaf: the tiles that it fills, one a level at most.
    pub fn push(&mut self, leaf: Hash) -> Vec<Tile> {
        let mut tiles = Vec::new();
        let mut next = Some(leaf);
        for number in 0.. {
            let Some(hash) = next.take() else { break };
            if self.levels.len() == number {
                self.levels.push(Level::default());
            }
            let Some(level) = self.levels.get_mut(number) else {
                break;
            };
            level.hashes.push(hash);
            if level.hashes.len() == WIDTH {
                let hashes = std::mem::take(&mut level.hashes);
                tiles.push(tile(number, level.full, &hashes));
                level.full += 1;
                let mut root = Frontier::default();
                hashes.into_iter().for_each(|hash| root.push(hash));
                next = Some(root.root());
            }
        }
        tiles
    }

    /// The partial tiles at the right.
    pub fn rest(self) -> Vec<Tile> {
        let levels = self.levels.iter().enumerate();
        levels
            .filter(|(_, level)| !level.hashes.is_empty())
            .map(|(number, level)| tile(number, level.full, &level.hashes))
            .collect()
    }
}

fn tile(level: usize, number: u64, hashes: &[Hash]) -> Tile {
    let mut path = format!("{:03}", number % 1_000);
    let mut higher = number / 1_000;
    while higher > 0 {
        path = format!("x{:03}/{path}", higher % 1_000);
        higher /= 1_000;
    }
    let partial = match hashes.len() {
        WIDTH => String::new(),
        width => format!(".p/{width}"),
    };
    Tile {
        path: format!("tile/{level}/{path}{partial}"),
        bytes: hashes.concat(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::merkle::{leaf_hash, node_hash};

    fn leaf(index: u64) -> Hash {
        leaf_hash(&index.to_be_bytes())
    }

    fn tiles(leaves: u64) -> BTreeMap<String, Vec<u8>> {
        let mut tiles = Tiles::default();
        let mut made: Vec<Tile> = (0..leaves)
            .flat_map(|index| tiles.push(leaf(index)))
            .collect();
        made.extend(tiles.rest());
        made.into_iter()
            .map(|tile| (tile.path, tile.bytes))
            .collect()
    }

    /// The root of so many hashes, straight from RFC 6962 §2.1.
    fn root(hashes: &[Hash]) -> Hash {
        match hashes {
            [] => crate::merkle::EMPTY_ROOT,
            [hash] => *hash,
            more => {
                let (left, right) = more.split_at(more.len().next_power_of_two() / 2);
                node_hash(&root(left), &root(right))
            }
        }
    }

    #[test]
    fn each_size_has_its_tiles() {
        let names = |leaves| tiles(leaves).into_keys().collect::<Vec<_>>();
        assert!(names(0).is_empty());
        assert_eq!(names(1), ["tile/0/000.p/1"]);
        assert_eq!(names(256), ["tile/0/000", "tile/1/000.p/1"]);
        assert_eq!(
            names(600),
            [
                "tile/0/000",
                "tile/0/001",
                "tile/0/002.p/88",
                "tile/1/000.p/2"
            ]
        );
        // As the specification writes large numbers.
        let far = tile(0, 1_234_067, &[[0; 32]; WIDTH]);
        assert_eq!(far.path, "tile/0/x001/x234/067");
    }

    #[test]
    fn a_tile_has_the_roots_of_those_below() {
        let leaves = 65_536 + 300;
        let tiles = tiles(leaves);
        let hashes: Vec<Hash> = (0..leaves).map(leaf).collect();
        assert_eq!(tiles["tile/0/255"], hashes[255 * 256..256 * 256].concat());
        let second: Vec<Hash> = hashes[..65_536].chunks(256).map(root).collect();
        assert_eq!(tiles["tile/1/000"], second.concat());
        assert_eq!(tiles["tile/2/000.p/1"], root(&hashes[..65_536]));
        assert_eq!(tiles["tile/0/257.p/44"].len(), 44 * 32);
        assert_eq!(tiles["tile/1/001.p/1"], root(&hashes[65_536..65_792]));
    }
}
