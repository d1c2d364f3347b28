//! Random choices that are the same on every machine and with every version of every crate.

pub struct Dice(u64);

impl Dice {
    pub fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// SplitMix64.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Both ends included.
    pub fn between(&mut self, low: i64, high: i64) -> i64 {
        low + (self.roll() % (high - low + 1).unsigned_abs()) as i64
    }

    pub fn one_in(&mut self, chances: u64) -> bool {
        self.roll().is_multiple_of(chances)
    }

    pub fn any<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.roll() as usize % of.len()]
    }

    /// One to `most` different values.
    pub fn some(&mut self, most: i64, mut value: impl FnMut(&mut Self) -> String) -> String {
        let mut values: Vec<String> = Vec::new();
        for _ in 0..self.between(1, most) {
            let value = value(self);
            if !values.contains(&value) {
                values.push(value);
            }
        }
        values.join(",")
    }

    /// A number from 1 to `highest`, at times from the end.
    pub fn ordinal(&mut self, highest: i64) -> String {
        let number = self.between(1, highest);
        if self.one_in(4) { format!("-{number}") } else { number.to_string() }
    }
}
