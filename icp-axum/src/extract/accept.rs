use axum::http::HeaderMap;
use axum::http::header::ACCEPT;

/// The weight of a range that names none, in thousandths.
const FULL: u16 = 1_000;

/// Which of `offers` the request likes most, the first of those it likes alike; by RFC 9110,
/// section 12.5.1. Every one is liked where the request does not say; `None` where none is.
pub(crate) fn preferred<'a>(headers: &HeaderMap, offers: &[&'a str]) -> Option<&'a str> {
    let ranges: Vec<_> = headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(Range::read)
        .collect();
    if ranges.is_empty() {
        return offers.first().copied();
    }
    let weighed = offers.iter().map(|offer| (weight(&ranges, offer), *offer));
    let best = weighed.filter(|(weight, _)| *weight > 0).rev().max_by_key(|(weight, _)| *weight);
    best.map(|(_, offer)| offer)
}

struct Range<'a> {
    kind: &'a str,
    subtype: &'a str,
    weight: u16,
}

impl<'a> Range<'a> {
    /// A range, its parameters but the weight left out; `None` where it cannot be read.
    fn read(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let (kind, subtype) = parts.next()?.split_once('/')?;
        let weight = parts.find_map(|part| {
            let (name, value) = part.split_once('=')?;
            name.trim().eq_ignore_ascii_case("q").then(|| thousandths(value.trim()))
        });
        Some(Self { kind, subtype, weight: weight.unwrap_or(FULL) })
    }

    /// How exactly it names `offer`; `None` where it does not.
    fn fits(&self, offer: &str) -> Option<u8> {
        let (kind, subtype) = media(offer).split_once('/')?;
        match (self.kind, self.subtype) {
            ("*", "*") => Some(0),
            (own, "*") if own.eq_ignore_ascii_case(kind) => Some(1),
            (own, sub) if own.eq_ignore_ascii_case(kind) && sub.eq_ignore_ascii_case(subtype) => {
                Some(2)
            }
            _ => None,
        }
    }
}

/// The weight of `offer`: that of the range that names it most exactly.
fn weight(ranges: &[Range<'_>], offer: &str) -> u16 {
    let fitting = ranges.iter().filter_map(|range| Some((range.fits(offer)?, range.weight)));
    fitting.max().map_or(0, |(_, weight)| weight)
}

fn thousandths(text: &str) -> u16 {
    let value: f32 = text.parse().unwrap_or(1.0);
    // In bounds by the clamp.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 1,000")]
    let thousandths = (value.clamp(0.0, 1.0) * 1_000.0) as u16;
    thousandths
}

/// A media type without its parameters.
pub(crate) fn media(value: &str) -> &str {
    value.split(';').next().unwrap_or_default().trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_exact_range_weighs_and_the_heaviest_wins() {
        const OFFERS: [&str; 3] = ["application/json", "application/yaml", "text/csv"];
        for (accept, expected) in [
            ("", Some("application/json")),
            ("*/*", Some("application/json")),
            ("text/*", Some("text/csv")),
            ("TEXT/CSV", Some("text/csv")),
            ("application/*, text/csv;q=0.9", Some("application/json")),
            (
                "application/json;q=0.5, application/yaml;q=0.8, text/csv;q=0.1",
                Some("application/yaml"),
            ),
            ("*/*;q=0.1, application/json;q=0", Some("application/yaml")),
            ("application/json; charset=utf-8; q=0.3, text/csv;q=0.2", Some("application/json")),
            ("image/png", None),
            ("application/json;q=0", None),
        ] {
            let mut headers = HeaderMap::new();
            if !accept.is_empty() {
                headers.insert(ACCEPT, accept.parse().unwrap());
            }
            assert_eq!(preferred(&headers, &OFFERS), expected, "{accept}");
        }
    }
}
