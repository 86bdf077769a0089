#![no_main]

use keyvaultfs::fuzzed;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| fuzzed::encoding(bytes));
