//! Sequence numbers: how they look, how they order, how they are read back.
//!
//! Owns the 186-bit layout. Never looks at a clock: times are arguments.
//!
//! From the top: the digit 2, the second at which the shard was made (36 bits), the low digit of the shard's
//! index, the record's count within the shard (64 bits), a zero byte, the second of arrival (36 bits), the
//! shard's index (32 bits) and the digit 2. So numbers have 56 decimal digits that begin with 49, they rise
//! within a shard, and every number of a child is above every number of its parents as long as the child's
//! second is above theirs.

/// The decimal digits of every sequence number.
pub(crate) const DIGITS: usize = 56;

/// The count in the sequence number that ends a closed shard: above that of any record.
pub(crate) const END: u64 = i64::MAX as u64;

/// What identifies a shard inside its sequence numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    /// The shard's number within its stream, from 0.
    pub(crate) shard: u32,
    /// Seconds since 1970; above that of every parent.
    pub(crate) made_s: u64,
}

/// A sequence number, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SequenceNumber {
    pub(crate) origin: Origin,
    /// 0 is the start of the shard, its n-th record (from 0) has n + 1, [`END`] is its end.
    pub(crate) count: u64,
    /// Seconds since 1970 at which the record arrived.
    pub(crate) arrived_s: u64,
}

const LIMB: u128 = 10_000_000_000_000_000_000; // 10^19, the largest power of ten that fits 64 bits

/// The same number in base 10^19, lowest limb first: cheap to count up and to print.
#[derive(Clone, Copy)]
struct Limbs([u64; 3]);

impl SequenceNumber {
    /// The 192 bits, highest word first.
    fn words(self) -> [u64; 3] {
        let Self {
            origin,
            count,
            arrived_s,
        } = self;
        let shard = u64::from(origin.shard);
        // Bit positions, from the bottom: version 0, shard 4, second 36, zero 72, count 80, digit 144,
        // second of the shard 148, the leading 2 at 184.
        let low = 2 | (shard << 4) | (arrived_s << 36);
        let middle = ((arrived_s & 0xF_FFFF_FFFF) >> 28) | (count << 16);
        let high =
            (count >> 48) | ((shard & 0xF) << 16) | ((origin.made_s & 0xF_FFFF_FFFF) << 20) | (2 << 56);
        [high, middle, low]
    }

    fn limbs(self) -> Limbs {
        let mut words = self.words();
        let mut limbs = [0; 3];
        for limb in &mut limbs {
            let mut rest: u128 = 0;
            for word in &mut words {
                let value = (rest << 64) | u128::from(*word);
                *word = (value / LIMB) as u64;
                rest = value % LIMB;
            }
            *limb = rest as u64;
        }
        Limbs(limbs)
    }

    /// Reads 56 digits back. `None` for anything that this crate cannot have written.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.len() != DIGITS || !text.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let mut words = [0u64; 3];
        for digit in text.bytes() {
            let mut carry = u128::from(digit - b'0');
            for word in words.iter_mut().rev() {
                let value = u128::from(*word) * 10 + carry;
                *word = value as u64;
                carry = value >> 64;
            }
        }
        let [high, middle, low] = words;
        let number = Self {
            origin: Origin {
                shard: ((low >> 4) & 0xFFFF_FFFF) as u32,
                made_s: (high >> 20) & 0xF_FFFF_FFFF,
            },
            count: (middle >> 16) | (high << 48),
            arrived_s: (low >> 36) | ((middle & 0xFF) << 28),
        };
        (number.words() == words).then_some(number)
    }
}

impl std::fmt::Display for SequenceNumber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(std::str::from_utf8(&self.limbs().digits()).expect("digits are ASCII"))
    }
}

impl Limbs {
    fn digits(self) -> [u8; DIGITS] {
        let mut digits = [b'0'; DIGITS];
        let mut end = DIGITS;
        for (limb, width) in self.0.into_iter().zip([19, 19, 18]) {
            let mut rest = limb;
            for place in digits[end - width..end].iter_mut().rev() {
                *place = b'0' + (rest % 10) as u8;
                rest /= 10;
            }
            end -= width;
        }
        digits
    }

    /// Adds 2^80, the distance between neighbours that arrive in the same second.
    fn step(&mut self) {
        const STEP: u128 = 1 << 80;
        let mut carry: u128 = 0;
        for (limb, add) in self.0.iter_mut().zip([STEP % LIMB, STEP / LIMB, 0]) {
            let value = u128::from(*limb) + add + carry;
            carry = u128::from(value >= LIMB);
            *limb = (value - carry * LIMB) as u64;
        }
    }
}

/// Prints the numbers of a run of records: neighbours cost an addition, not a division of 192 bits.
pub(crate) struct Printer {
    origin: Origin,
    last: Option<(u64, u64, Limbs)>,
}

impl Printer {
    pub(crate) fn new(origin: Origin) -> Self {
        Self { origin, last: None }
    }

    /// The digits of the record with this count (its position plus one).
    pub(crate) fn print(&mut self, count: u64, arrived_s: u64) -> [u8; DIGITS] {
        let limbs = match self.last {
            Some((last, second, mut limbs)) if last + 1 == count && second == arrived_s => {
                limbs.step();
                limbs
            }
            _ => SequenceNumber {
                origin: self.origin,
                count,
                arrived_s,
            }
            .limbs(),
        };
        self.last = Some((count, arrived_s, limbs));
        limbs.digits()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGIN: Origin = Origin {
        shard: 17,
        made_s: 1_790_000_000,
    };

    fn number(count: u64, arrived_s: u64) -> SequenceNumber {
        SequenceNumber {
            origin: ORIGIN,
            count,
            arrived_s,
        }
    }

    #[test]
    fn a_sequence_number_has_56_digits_and_begins_with_49() {
        for made_s in [0, 1_790_000_000, 2_600_000_000] {
            let text = SequenceNumber {
                origin: Origin {
                    shard: u32::MAX,
                    made_s,
                },
                count: END,
                arrived_s: made_s,
            }
            .to_string();
            assert_eq!((text.len(), &text[..2]), (56, "49"), "{text}");
        }
    }

    #[test]
    fn a_printed_number_reads_back_as_itself() {
        for count in [0, 1, 0xFFFF, 0x1_0000_0000_0000, END] {
            for arrived_s in [0, 1_790_000_001, 0xF_FFFF_FFFF] {
                let number = number(count, arrived_s);
                assert_eq!(SequenceNumber::parse(&number.to_string()), Some(number));
            }
        }
    }

    #[test]
    fn numbers_rise_with_the_count_and_children_are_above_their_parents_end() {
        assert!(number(1, 1_790_000_000).to_string() < number(2, 1_790_000_000).to_string());
        assert!(number(2, 1_799_999_999).to_string() < number(3, 1_790_000_000).to_string());
        let child = Origin {
            shard: 0,
            made_s: ORIGIN.made_s + 1,
        };
        let start = SequenceNumber {
            origin: child,
            count: 0,
            arrived_s: 0,
        };
        assert!(number(END, 0xF_FFFF_FFFF).to_string() < start.to_string());
    }

    #[test]
    fn the_printer_writes_what_the_number_displays() {
        let mut printer = Printer::new(ORIGIN);
        for count in (1..2_000).chain(0xFFFF_FFFF_FFF0..0xFFFF_FFFF_FFFF) {
            let second = 1_790_000_000 + count / 700;
            let printed = printer.print(count, second);
            assert_eq!(
                std::str::from_utf8(&printed).unwrap(),
                number(count, second).to_string()
            );
        }
    }

    #[test]
    fn what_nobody_wrote_is_not_a_sequence_number() {
        let mut altered = number(5, 7).to_string().into_bytes();
        altered[55] ^= 1;
        for text in [
            "",
            "0",
            "12",
            &"9".repeat(56),
            &"4".repeat(56),
            std::str::from_utf8(&altered).unwrap(),
        ] {
            assert_eq!(SequenceNumber::parse(text), None, "{text}");
        }
    }
}
