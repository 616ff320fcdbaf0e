//! The words of a statement.

/// A word, number, text, placeholder or sign.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token<'a> {
    /// Whether a space is before it.
    pub(super) gap: bool,
    pub(super) text: &'a str,
    /// Which value a placeholder takes.
    pub(super) value: Option<usize>,
}

impl<'a> Token<'a> {
    /// One that nothing is bound to.
    pub(super) fn new(gap: bool, text: &'a str) -> Self {
        Self { gap, text, value: None }
    }
}

/// The tokens of `sql`, in which `?1` takes the first value and `?` the next.
pub(super) fn tokens(sql: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let (mut rest, mut counted) = (sql, 0);
    loop {
        let trimmed = rest.trim_start();
        if trimmed.is_empty() {
            return tokens;
        }
        let (text, after) = trimmed.split_at(len(trimmed));
        let mut token = Token::new(trimmed.len() < rest.len(), text);
        if let Some(number) = text.strip_prefix('?') {
            token.text = "?";
            token.value = Some(number.parse::<usize>().map_or(counted, |number| number - 1));
            counted += usize::from(number.is_empty());
        }
        tokens.push(token);
        rest = after;
    }
}

/// How long the first token is.
fn len(sql: &str) -> usize {
    let run = |of: fn(char) -> bool| sql[1..].find(|c| !of(c)).map_or(sql.len(), |len| len + 1);
    match sql.as_bytes()[0] {
        b'\'' => text_len(sql),
        b'?' => run(|c| c.is_ascii_digit()),
        first if first.is_ascii_alphabetic() || first == b'_' => {
            run(|c| c.is_ascii_alphanumeric() || c == '_')
        }
        first if first.is_ascii_digit() => run(|c| c.is_ascii_digit()),
        _ if sql.starts_with("->>") => 3,
        _ if ["<=", ">=", "!=", "<>"].iter().any(|sign| sql.starts_with(sign)) => 2,
        _ => sql.chars().next().map_or(1, char::len_utf8),
    }
}

/// Two quotes within a text are one of it.
fn text_len(sql: &str) -> usize {
    let mut end = 1;
    while let Some(len) = sql[end..].find('\'') {
        end += len + 1;
        if !sql[end..].starts_with('\'') {
            return end;
        }
        end += 1;
    }
    sql.len()
}

/// Where the bracket at `open` closes.
pub(super) fn close(tokens: &[Token<'_>], open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token.text {
            "(" => depth += 1,
            ")" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at;
        }
    }
    tokens.len()
}

/// Whether `words` follow from `at` on.
pub(super) fn reads(tokens: &[Token<'_>], at: usize, words: &[&str]) -> bool {
    let found = tokens.get(at..at + words.len());
    found.is_some_and(|found| {
        found.iter().zip(words).all(|(token, word)| token.text.eq_ignore_ascii_case(word))
    })
}

/// Where `words` are outside of all brackets.
pub(super) fn find(tokens: &[Token<'_>], words: &[&str]) -> Option<usize> {
    let mut at = 0;
    while at < tokens.len() {
        if reads(tokens, at, words) {
            return Some(at);
        }
        at = if tokens[at].text == "(" { close(tokens, at) } else { at } + 1;
    }
    None
}
