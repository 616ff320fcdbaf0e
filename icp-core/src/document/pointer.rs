//! RFC 6901 pointers, and the nearest known word for a misspelt one.

/// The pointer of `token` under `base`.
pub(crate) fn child(base: &str, token: impl std::fmt::Display) -> String {
    let token = token.to_string().replace('~', "~0").replace('/', "~1");
    format!("{base}/{token}")
}

/// "; did you mean `x`?" for the known word nearest to `word`, or nothing when none is near.
pub(crate) fn nearest(word: &str, known: &[&str]) -> String {
    let word: String = word.chars().take(64).collect();
    known
        .iter()
        .map(|candidate| (strsim::osa_distance(&word, candidate), candidate))
        .min()
        .filter(|(distance, candidate)| *distance <= (candidate.len() / 2).clamp(1, 3))
        .map_or_else(String::new, |(_, candidate)| format!("; did you mean `{candidate}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_escaped() {
        assert_eq!(child("/a", "b/c~d"), "/a/b~1c~0d");
        assert_eq!(child("", 3), "/3");
    }

    #[test]
    fn only_near_words_are_suggested() {
        let known = ["$gte", "$exists", "$in"];
        assert_eq!(nearest("$gt", &known), "; did you mean `$gte`?");
        assert_eq!(nearest("$exist", &known), "; did you mean `$exists`?");
        assert_eq!(nearest("$something", &known), "");
    }
}
