//! What the tests below `attack/` share: chance that can be repeated, a long form, and counts.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;

/// Whether the long form was asked for: `tests/run --long` sets the variable.
pub fn is_long() -> bool {
    std::env::var_os("RBUILD_TEST_LONG").is_some_and(|value| value == "1")
}

/// How often to try: so often in CI, and so often in the long form.
pub fn rounds(short: u32, long: u32) -> u32 {
    if is_long() { long } else { short }
}

/// Chance that a seed determines. $RBUILD_TEST_SEED says which, 1 if it does not.
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    /// The chance of one attack, by the attack's name. A test that fails shows the seed that it printed.
    pub fn of(attack: &str) -> Self {
        let told = std::env::var("RBUILD_TEST_SEED").ok();
        let seed: u64 = told.map_or(1, |seed| seed.parse().expect("RBUILD_TEST_SEED is a number"));
        println!("{attack}: RBUILD_TEST_SEED={seed}");
        // Attacks with the same seed do not all begin with the same number.
        Self(attack.bytes().fold(seed, |sum, byte| sum.wrapping_mul(0x100_0000_01b3) ^ u64::from(byte)))
    }

    /// The next number (SplitMix64).
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).expect("it is below a usize")
    }

    /// A number from 0 to below 1.
    pub fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// One of these.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    /// These in another order.
    pub fn shuffle<T>(&mut self, of: &mut [T]) {
        for end in (1..of.len()).rev() {
            let other = self.below(end + 1);
            of.swap(end, other);
        }
    }
}

/// How often an attack was tried, and what came of it. Reported when it ends: on standard output, and as a line of the
/// file $RBUILD_TEST_COUNTS, from which `tests/run --long` makes its table.
#[derive(Debug)]
pub struct Tally {
    attack: String,
    tries: u32,
    outcomes: BTreeMap<String, u32>,
}

impl Tally {
    pub fn of(attack: &str) -> Self {
        Self { attack: attack.to_owned(), tries: 0, outcomes: BTreeMap::new() }
    }

    /// One more try that came to this: `a clear error`, `the right image`.
    pub fn count(&mut self, outcome: &str) {
        self.tries += 1;
        *self.outcomes.entry(outcome.to_owned()).or_default() += 1;
    }

    /// How many came to this.
    pub fn came_to(&self, outcome: &str) -> u32 {
        self.outcomes.get(outcome).copied().unwrap_or(0)
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        let mut line = format!("| {} | {} | ", self.attack, self.tries);
        for (number, (outcome, count)) in self.outcomes.iter().enumerate() {
            let _ = write!(line, "{}{count} {outcome}", if number == 0 { "" } else { ", " });
        }
        line.push_str(if std::thread::panicking() { " and then FAILED |\n" } else { " |\n" });
        print!("{line}");
        let Some(path) = std::env::var_os("RBUILD_TEST_COUNTS") else { return };
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
        // One write, so that lines of tests that run at once do not mix.
        if let Ok(mut file) = file {
            let _ = file.write_all(line.as_bytes());
        }
    }
}
