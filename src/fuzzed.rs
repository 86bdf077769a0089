//! What is fuzzed: one function for each parser of bytes from outside, which reads them and panics
//! if the parser breaks its word.
//!
//! The fuzz targets of `tests/fuzz` call these, and so do the tests below: with the committed
//! seeds, and with random changes of them.

#![forbid(unsafe_code)]

pub use crate::azure::fuzzed::{
    bundle, challenge, list_keys, problem, retry_after, token_response,
};
pub use crate::cli::fuzzed::mount_options;
pub use crate::secrets::fuzzed::{certificate, encoding};

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;

    type Target = (&'static str, fn(&[u8]));

    const TARGETS: [Target; 9] = [
        ("bundle", bundle),
        ("certificate", certificate),
        ("challenge", challenge),
        ("encoding", encoding),
        ("list_keys", list_keys),
        ("mount_options", mount_options),
        ("problem", problem),
        ("retry_after", retry_after),
        ("token_response", token_response),
    ];

    fn folder(name: &str) -> Vec<fs::DirEntry> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/fuzz")
            .join(name);
        let mut entries: Vec<_> = fs::read_dir(path).unwrap().map(Result::unwrap).collect();
        entries.sort_by_key(fs::DirEntry::path);
        entries
    }

    fn seeds(target: &str) -> Vec<Vec<u8>> {
        let files = folder(&format!("corpus/{target}"));
        files
            .iter()
            .map(|file| fs::read(file.path()).unwrap())
            .collect()
    }

    #[test]
    fn every_target_is_here_and_has_seeds() {
        let named = |entry: &fs::DirEntry| {
            let path = entry.path();
            path.file_stem().unwrap().to_str().unwrap().to_owned()
        };
        let here: BTreeSet<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(
            folder("targets").iter().map(named).collect::<BTreeSet<_>>(),
            here
        );
        assert_eq!(
            folder("corpus").iter().map(named).collect::<BTreeSet<_>>(),
            here
        );
    }

    #[test]
    fn every_seed_and_every_start_of_one_is_read_as_promised() {
        for (name, target) in TARGETS {
            let seeds = seeds(name);
            assert!(!seeds.is_empty(), "{name}");
            for seed in seeds {
                for end in (0..seed.len()).step_by(1 + seed.len() / 50) {
                    target(&seed[..end]);
                }
                target(&seed);
            }
        }
    }

    /// A change to a seed: at a place, so many bytes give way to these.
    fn changes() -> impl Strategy<Value = Vec<(Index, usize, Vec<u8>)>> {
        let bytes = proptest::collection::vec(any::<u8>(), 0..4);
        proptest::collection::vec((any::<Index>(), 0_usize..4, bytes), 1..4)
    }

    proptest! {
        #[test]
        fn every_target_takes_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for (_, target) in TARGETS {
                target(&bytes);
            }
        }

        #[test]
        fn every_target_takes_a_changed_seed(seed in any::<Index>(), changes in changes()) {
            for (name, target) in TARGETS {
                let mut bytes = seed.get(&seeds(name)).clone();
                for (at, gone, new) in &changes {
                    let start = at.index(bytes.len() + 1);
                    let end = bytes.len().min(start + gone);
                    bytes.splice(start..end, new.iter().copied());
                }
                target(&bytes);
            }
        }
    }
}
