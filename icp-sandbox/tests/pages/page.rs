//! Pages of examples: the fenced texts under each heading of the third level.

use std::path::Path;

/// A page.
#[derive(Debug, Default)]
pub(crate) struct Page {
    /// Those with fenced texts.
    pub(crate) examples: Vec<Example>,
    /// How many headings of the third level there are.
    pub(crate) headings: usize,
}

/// A heading and what is fenced under it.
#[derive(Debug)]
pub(crate) struct Example {
    pub(crate) heading: String,
    pub(crate) fences: Vec<Fence>,
}

/// A fenced text.
#[derive(Debug)]
pub(crate) struct Fence {
    /// What stands behind the opening fence, such as `json`.
    pub(crate) info: String,
    pub(crate) text: String,
}

impl Page {
    /// Reads `docs/guides/<name>.md`.
    pub(crate) fn read(name: &str) -> Self {
        let guides = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/guides");
        Self::of(&std::fs::read_to_string(guides.join(format!("{name}.md"))).unwrap())
    }

    pub(crate) fn of(text: &str) -> Self {
        let mut page = Self::default();
        // Whether what is fenced belongs to an example: it stands under a heading of the third
        // level, not of one above it.
        let mut within = false;
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if let Some(heading) = line.strip_prefix("### ") {
                within = true;
                page.headings += 1;
                page.examples.push(Example { heading: heading.to_owned(), fences: Vec::new() });
            } else if line.starts_with('#') {
                within = false;
            } else if let Some(info) = line.strip_prefix("```") {
                let text = lines.by_ref().take_while(|line| *line != "```");
                let text = text.map(|line| format!("{line}\n")).collect();
                let fence = Fence { info: info.to_owned(), text };
                if let (true, Some(example)) = (within, page.examples.last_mut()) {
                    example.fences.push(fence);
                }
            }
        }
        page.examples.retain(|example| !example.fences.is_empty());
        page
    }
}
