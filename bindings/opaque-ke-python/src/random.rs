//! Where randomness comes from: the operating system, and nothing else in what is shipped.

#[cfg(not(feature = "vectors"))]
pub use rand_core::OsRng as Random;
#[cfg(feature = "vectors")]
pub use tape::{Random, play};

#[cfg(feature = "vectors")]
mod tape {
    use std::sync::Mutex;

    use pyo3::prelude::*;
    use rand_core::{CryptoRng, Error, OsRng, RngCore, impls};

    static TAPE: Mutex<Vec<u8>> = Mutex::new(Vec::new());

    /// The operating system's once the tape has been read to its end.
    pub struct Random;

    /// Puts bytes on the tape; returns how many of the last tape were not read.
    #[pyfunction]
    pub fn play(tape: Vec<u8>) -> usize {
        let mut held = TAPE.lock().expect("no panic while it is held");
        let left = held.len();
        *held = tape;
        left
    }

    impl RngCore for Random {
        fn next_u32(&mut self) -> u32 {
            impls::next_u32_via_fill(self)
        }

        fn next_u64(&mut self) -> u64 {
            impls::next_u64_via_fill(self)
        }

        fn fill_bytes(&mut self, dest: &mut [u8]) {
            let mut tape = TAPE.lock().expect("no panic while it is held");
            if tape.is_empty() {
                return OsRng.fill_bytes(dest);
            }
            dest.copy_from_slice(&tape[..dest.len()]);
            tape.drain(..dest.len());
        }

        fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), Error> {
            self.fill_bytes(dest);
            Ok(())
        }
    }

    impl CryptoRng for Random {}
}
