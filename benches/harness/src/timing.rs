//! Whether the time that a check takes tells how much of a guess is right.
//!
//! Two classes of wrong guesses take turns at random: one that is right up to its last byte, and
//! others that are wrong from their first. Welch's t-test compares the times of both, after those
//! are left out that something else prolonged. Each guess is made anew before its check, or the time
//! would tell where in memory its class lies. A comparison that ends at the first difference is
//! measured beside, to show that the test would see it.

use std::hint::black_box;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use http::{HeaderMap, HeaderValue};
use icp::Engine;
use icp::access::ApiKey;
use icp::secret::{Entropy, LocalKeys, SecretString, SystemEntropy};
use icp::signing::standard::{StandardSigner, StandardVerifier};
use icp::signing::{KeyRing, Message, Signer, Verifier};
use icp::store::MemoryStore;
use icp::time::Timestamp;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::engine::SECRET;
use crate::report::{Goal, Report};
use crate::{Result, usage};

/// What a guess is checked with in each of these.
const GUESSES: usize = 1_024;
/// How many keys are guessed at.
const KEYS: usize = 64;
/// The share of the longest times that is left out.
const LEFT_OUT: f64 = 0.1;
/// From where on times are taken to differ.
const DIFFER: f64 = 4.5;
const SIGNATURE: &str = "webhook-signature";
const BODY: &[u8] = br#"{"type":"order.paid","data":{"order":17}}"#;

/// Guesses of two classes, and the check that refuses them.
struct Subject<G> {
    near: Vec<G>,
    far: Vec<G>,
}

pub(crate) fn run(report: &mut Report, samples: usize) -> Result<()> {
    let mut random = StdRng::seed_from_u64(9);
    let naive = guesses(&mut random);
    let right = RIGHT.to_vec();
    let seen =
        naive.t(samples, &mut random, |guess| guess.to_vec(), |guess| equal_early(guess, &right));
    report.goal(Goal::at_least("timing: t of a comparison that ends early", seen, DIFFER));

    let again = |(engine, guess): &(Engine, String)| (engine.clone(), guess.as_str().to_owned());
    let t = keys(&mut random)?.t(samples, &mut random, again, |(engine, guess)| {
        matches!(ready(engine.authenticate(guess)), Ok(Ok(Some(_))))
    });
    report.goal(Goal::at_most("timing: t of the check of an api key", t, DIFFER));

    let now = Timestamp::from_millis(1_795_000_000_000);
    let secret = SecretString::from(SECRET);
    let ring = KeyRing::new([(secret, None)])?;
    let (signer, verifier) = (StandardSigner::new(&ring)?, StandardVerifier::new(&ring)?);
    let mut headers = HeaderMap::new();
    signer.sign(&Message { id: "msg_1", timestamp: now, body: BODY }, &mut headers)?;
    let again = |value: &HeaderValue| {
        let mut headers = headers.clone();
        headers.insert(SIGNATURE, anew(value));
        headers
    };
    let t = signatures(&headers, &mut random)?
        .t(samples, &mut random, again, |headers| verifier.verify(headers, BODY, now).is_ok());
    report.goal(Goal::at_most("timing: t of the check of a signature", t, DIFFER));
    Ok(())
}

/// What a guess has to be.
const RIGHT: [u8; 32] = *b"what nobody but its holder knows";

/// Guesses at [`RIGHT`].
fn guesses(random: &mut StdRng) -> Subject<[u8; 32]> {
    let mut near = RIGHT;
    near[31] ^= 1;
    let far = (0..GUESSES).map(|_| {
        let mut far: [u8; 32] = random.random();
        far[0] = RIGHT[0] ^ (far[0] | 1);
        far
    });
    Subject { near: vec![near; GUESSES], far: far.collect() }
}

/// Guesses at the keys of several engines. Those of both classes are near the key of some engine,
/// so that it takes as long to read them, and near ones are so to that of the engine they are for.
fn keys(random: &mut StdRng) -> Result<Subject<(Engine, String)>> {
    let mut holders = Vec::new();
    for _ in 0..KEYS {
        let sealing = LocalKeys::generate("bench", &SystemEntropy)?;
        let engine = Engine::builder(MemoryStore::new()).keys(sealing).build()?;
        let secret: [u8; 32] = random.random();
        let key = ApiKey::generate(engine.ids(), &Bytes(secret))?;
        if !tokio::runtime::Handle::current().block_on(engine.bootstrap_key(&key))? {
            return Err("there is a first key already".into());
        }
        holders.push((engine, key.id(), secret));
    }
    let guess = |number: usize, of: usize| {
        let (engine, id, _) = &holders[number % KEYS];
        let mut secret = holders[of % KEYS].2;
        secret[31] ^= 1;
        let guess = ApiKey::generate_for(*id, &Bytes(secret))?;
        Ok((engine.clone(), guess.to_text().expose().to_owned()))
    };
    Ok(Subject {
        near: (0..GUESSES).map(|number| guess(number, number)).collect::<Result<_>>()?,
        far: (0..GUESSES).map(|number| guess(number, number + 1)).collect::<Result<_>>()?,
    })
}

/// Signatures that are right but for one letter: one of the last, or the first.
fn signatures(signed: &HeaderMap, random: &mut StdRng) -> Result<Subject<HeaderValue>> {
    let right = signed.get(SIGNATURE).ok_or("nothing is signed")?.to_str()?.to_owned();
    let mut with = |position: usize| {
        let mut text = right.clone().into_bytes();
        // Base 64, so that another letter is another byte.
        while text[position] == right.as_bytes()[position] {
            text[position] = random.random_range(b'a'..=b'z');
        }
        Ok(text.try_into()?)
    };
    // Behind `v1,` are 43 letters and a `=`. The last letter has two bits that count for nothing.
    Ok(Subject {
        near: (0..GUESSES).map(|_| with(right.len() - 3)).collect::<Result<_>>()?,
        far: (0..GUESSES).map(|_| with(3)).collect::<Result<_>>()?,
    })
}

/// The same value in other memory.
#[expect(clippy::expect_used, reason = "it was a value before")]
fn anew(value: &HeaderValue) -> HeaderValue {
    HeaderValue::from_bytes(value.as_bytes()).expect("a value is one")
}

impl<G> Subject<G> {
    /// The absolute t between the times of both classes; `again` makes a guess anew.
    fn t<F>(
        &self,
        samples: usize,
        random: &mut StdRng,
        again: impl Fn(&G) -> F,
        check: impl Fn(&F) -> bool,
    ) -> f64 {
        let mut times = [Vec::new(), Vec::new()];
        for _ in 0..samples {
            let class = usize::from(random.random::<bool>());
            // In no order: what was read just before is read faster.
            let guess = again(&[&self.near, &self.far][class][random.random_range(0..GUESSES)]);
            let begun = usage::now();
            let passed = black_box(check(black_box(&guess)));
            let took = usage::now() - begun;
            assert!(!passed, "a wrong guess passes");
            times[class].push(took.as_secs_f64());
        }
        let mut all: Vec<f64> = times.concat();
        all.sort_unstable_by(f64::total_cmp);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            clippy::cast_sign_loss,
            reason = "a place in the list"
        )]
        let longest = all[(all.len() as f64 * (1.0 - LEFT_OUT)) as usize];
        let [near, far] =
            times.map(|times| Moments::of(times.into_iter().filter(|t| *t <= longest)));
        ((near.mean - far.mean) / (near.error + far.error).sqrt()).abs()
    }
}

/// The mean of a class, and the variance of that mean.
struct Moments {
    mean: f64,
    error: f64,
}

impl Moments {
    fn of(times: impl Iterator<Item = f64>) -> Self {
        // By Welford, in one pass.
        let (mut count, mut mean, mut squares) = (0.0, 0.0, 0.0);
        for time in times {
            count += 1.0;
            let before = time - mean;
            mean += before / count;
            squares += before * (time - mean);
        }
        Self { mean, error: squares / (count - 1.0) / count }
    }
}

fn equal_early(one: &[u8], other: &[u8]) -> bool {
    for (one, other) in one.iter().zip(other) {
        if black_box(*one) != black_box(*other) {
            return false;
        }
    }
    true
}

/// The answer of what never has to wait.
fn ready<T>(future: impl Future<Output = T>) -> Result<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => Ok(answer),
        Poll::Pending => Err("it waits, so that its time tells nothing".into()),
    }
}

/// Bytes that are known.
#[derive(Debug)]
struct Bytes([u8; 32]);

impl Entropy for Bytes {
    fn fill(&self, into: &mut [u8]) -> icp::Result<()> {
        into.copy_from_slice(&self.0[..into.len()]);
        Ok(())
    }
}
