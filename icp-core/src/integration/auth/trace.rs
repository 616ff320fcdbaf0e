use url::form_urlencoded::byte_serialize;

use super::Part;
use crate::secret::SecretString;

/// The shortest credential that is looked for in answers, in bytes.
const SHORTEST: usize = 6;

/// What credentials look like where a receiver repeats them, the longest first, so that none is
/// masked in part only.
#[derive(Clone, Debug, Default)]
pub(super) struct Traces(Vec<SecretString>);

impl Traces {
    /// The traces of what is sent, and of `raw`, which is sent in another form.
    pub(super) fn of(parts: &[Part], raw: &[SecretString]) -> Self {
        let mut found: Vec<SecretString> = Vec::new();
        let sent = parts.iter().map(|(Part::Header(_, secret) | Part::Query(_, secret))| secret);
        for secret in sent.chain(raw) {
            let whole = secret.expose();
            // A receiver may repeat a token without its scheme.
            let token = whole.split_once(' ').map_or(whole, |(_, token)| token);
            for text in [whole, token] {
                found
                    .extend(forms(text).into_iter().filter(|form| form.expose().len() >= SHORTEST));
            }
        }
        found.sort_by(|a, b| {
            let (a, b) = (a.expose(), b.expose());
            b.len().cmp(&a.len()).then_with(|| a.cmp(b))
        });
        found.dedup_by(|a, b| a.expose() == b.expose());
        Self(found)
    }

    pub(super) fn redact(&self, text: String) -> String {
        self.0.iter().fold(text, |text, trace| {
            let trace = trace.expose();
            if text.contains(trace) { text.replace(trace, "***") } else { text }
        })
    }
}

/// A text as it is, and as it is written where it becomes part of something else.
fn forms(text: &str) -> Vec<SecretString> {
    let form: SecretString = byte_serialize(text.as_bytes()).collect::<String>().into();
    let percent: SecretString = form.expose().replace('+', "%20").into();
    let uri: SecretString = percent.expose().replace("%7E", "~").replace('*', "%2A").into();
    let component = UNTOUCHED
        .into_iter()
        .fold(percent.clone(), |text, (code, plain)| text.expose().replace(code, plain).into());
    let json = json(text);
    let slashes = json.expose().replace('/', "\\/").into();
    let mut forms = vec![form, percent, uri, component];
    let small: Vec<_> = forms.iter().map(|form| small_digits(form.expose())).collect();
    forms.extend(small);
    forms.extend([text.into(), json, slashes]);
    forms
}

/// What the `encodeURIComponent` of ECMAScript leaves as it is, and forms do not.
const UNTOUCHED: [(&str, &str); 5] =
    [("%21", "!"), ("%27", "'"), ("%28", "("), ("%29", ")"), ("%7E", "~")];

/// The text within a JSON string.
fn json(text: &str) -> SecretString {
    let quoted = SecretString::from(serde_json::Value::from(text).to_string());
    let inner = quoted.expose().strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    inner.unwrap_or(text).into()
}

/// `%2F` as `%2f`.
fn small_digits(form: &str) -> SecretString {
    let mut digits = 0_u8;
    let small = form.chars().map(|c| {
        let is_digit = digits > 0;
        digits = if c == '%' { 2 } else { digits.saturating_sub(1) };
        if is_digit { c.to_ascii_lowercase() } else { c }
    });
    small.collect::<String>().into()
}
