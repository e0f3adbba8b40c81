//! Links in Markdown files lead to files and headings that there are.
//!
//! Rust items (`[Router](crate::Router)`) are rustdoc's to check, and addresses of others are nobody's here.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use crate::{Result, workspace};

/// Where a page of ours has its file: a crate's README links like this to what registries do not have.
const OURS: &str = "https://github.com/watermill-rs/watermill/blob/main/";

pub(super) fn check() -> Result {
    let mut pages = Vec::new();
    collect(workspace::root(), &mut pages)?;
    let mut faults = Vec::new();
    let mut count = 0;
    for page in &pages {
        let text = read(page)?;
        let targets = targets(&text);
        count += targets.len();
        for target in targets {
            if let Some(fault) = fault(workspace::root(), page, &target)? {
                let page = page.strip_prefix(workspace::root()).unwrap_or(page);
                faults.push(format!("{} links to {target}: {fault}", page.display()));
            }
        }
    }
    println!("{count} links in {} Markdown files", pages.len());
    if faults.is_empty() { Ok(()) } else { Err(faults.join("\n")) }
}

/// Every Markdown file below a folder, without what is built and what is hidden.
fn collect(folder: &Path, pages: &mut Vec<PathBuf>) -> Result {
    let entries =
        fs::read_dir(folder).map_err(|error| format!("failed to list {}: {error}", folder.display()))?;
    for entry in entries.flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        if path.is_dir() {
            if name != "target" && !name.to_string_lossy().starts_with('.') {
                collect(&path, pages)?;
            }
        } else if is_markdown(&path) {
            pages.push(path);
        }
    }
    pages.sort();
    Ok(())
}

fn is_markdown(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "md")
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|error| format!("failed to read {}: {error}", path.display()))
}

/// What is wrong with a link of a page, if anything.
fn fault(root: &Path, page: &Path, target: &str) -> Result<Option<String>> {
    let (from, target) = match target.strip_prefix(OURS) {
        Some(rest) => (root, rest),
        None => (page.parent().unwrap_or(root), target),
    };
    let (path, anchor) = target.split_once('#').map_or((target, None), |(path, at)| (path, Some(at)));
    let file = if path.is_empty() { page.to_owned() } else { from.join(path) };
    match fs::canonicalize(&file) {
        Err(_) => return Ok(Some("there is no such file".to_owned())),
        Ok(file) if !file.starts_with(root) => {
            return Ok(Some("that is outside of the repository".to_owned()));
        }
        Ok(_) => {}
    }
    match anchor {
        Some(_) if !is_markdown(&file) => Ok(Some("an anchor belongs to a Markdown file".to_owned())),
        Some(anchor) if !anchors(&read(&file)?).contains(anchor) => {
            Ok(Some("there is no such heading".to_owned()))
        }
        _ => Ok(None),
    }
}

/// The targets of a page's links that are files, headings, or pages of ours.
fn targets(text: &str) -> Vec<String> {
    let prose = without_code(&outside_of_fences(text).collect::<Vec<_>>().join("\n"));
    let inline = prose.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    let definitions = prose.lines().filter_map(|line| line.trim_start().strip_prefix('[')?.split_once("]: "));
    inline
        .map(|(target, _)| target)
        .chain(definitions.map(|(_, target)| target))
        // What stands behind a blank is a title.
        .filter_map(|target| target.split_whitespace().next())
        .filter(|target| is_ours(target))
        .map(str::to_owned)
        .collect()
}

fn is_ours(target: &str) -> bool {
    let path = target.split('#').next().unwrap_or_default();
    let is_file = !path.contains(':') && (path.is_empty() || path.contains(['.', '/', '-']));
    is_file || target.starts_with(OURS)
}

/// The anchors that GitHub gives the headings of a page.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    for line in outside_of_fences(text) {
        let heading = line.trim_start_matches('#');
        if heading.len() == line.len() || !heading.starts_with(' ') {
            continue;
        }
        let slug = slug(heading);
        let numbered = (1..).map(|number| format!("{slug}-{number}"));
        let free = std::iter::once(slug.clone()).chain(numbered).find(|anchor| !anchors.contains(anchor));
        anchors.extend(free);
    }
    anchors
}

fn slug(heading: &str) -> String {
    // Of a link only the text counts.
    let mut text = String::new();
    let mut rest = heading.trim();
    while let Some((before, link)) = rest.split_once("](") {
        text.push_str(before);
        rest = link.split_once(')').map_or("", |(_, after)| after);
    }
    text.push_str(rest);
    let kept = text.chars().filter(|it| it.is_alphanumeric() || matches!(it, ' ' | '-' | '_'));
    kept.flat_map(char::to_lowercase).map(|it| if it == ' ' { '-' } else { it }).collect()
}

fn outside_of_fences(text: &str) -> impl Iterator<Item = &str> {
    let mut fence: Option<&str> = None;
    text.lines().filter(move |line| {
        let line = line.trim_start();
        let mark = ["```", "~~~"].into_iter().find(|mark| line.starts_with(mark));
        match (fence, mark) {
            (None, None) => true,
            (None, Some(mark)) => {
                fence = Some(mark);
                false
            }
            (Some(open), mark) => {
                if mark == Some(open) {
                    fence = None;
                }
                false
            }
        }
    })
}

/// Drops code between backticks: what looks like a link in there is none.
fn without_code(text: &str) -> String {
    let mut kept = String::new();
    let mut rest = text;
    while let Some(start) = rest.find('`') {
        let ticks = rest[start..].len() - rest[start..].trim_start_matches('`').len();
        let (mark, after) = (&rest[start..start + ticks], &rest[start + ticks..]);
        kept.push_str(&rest[..start]);
        // Code does not go on in the next paragraph: a backtick without a second one is a backtick.
        let paragraph = after.split("\n\n").next().unwrap_or_default();
        rest = paragraph.find(mark).map_or(after, |end| &after[end + ticks..]);
    }
    kept + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_between_documents_lead_somewhere() {
        check().unwrap();
    }

    #[test]
    fn links_to_files_and_headings_are_told_from_others() {
        let text = "[a](b.md#c) [d](https://e) [f](crate::G) [h](#i) [`j`](LICENSE-MIT) [k](Self)\n\
            [l]: m/n.md\n[o](p.md \"a title\") ![q](r.png) [s](router#t)\n";
        assert_eq!(targets(text), ["b.md#c", "#i", "LICENSE-MIT", "p.md", "r.png", "m/n.md"]);
        let ours = format!("[a]({OURS}forwarder/DAEMON.md)");
        assert_eq!(targets(&ours), [format!("{OURS}forwarder/DAEMON.md")]);
    }

    #[test]
    fn code_has_no_links_and_no_headings() {
        let text = "```sh\n# no heading\necho '[a](b.md)'\n```\n   ~~~\n```\n# none\n   ~~~\n`[c](d.md)`, ``e` [f](g.md)``, a ` alone\n\n[h](`i`.md)\n# One";
        assert_eq!(targets(text), [".md"]);
        assert_eq!(anchors(text), BTreeSet::from(["one".to_owned()]));
    }

    #[test]
    fn headings_have_the_anchors_that_github_gives_them() {
        let text = "# A table that you have already\n## `sql`: what it needs, and why?\n# [Link](x.md) text\n\
            # Twice\n## Twice\n#hashtag\n# Ü_b - c\n";
        let expected = [
            "a-table-that-you-have-already",
            "sql-what-it-needs-and-why",
            "link-text",
            "twice",
            "twice-1",
            "ü_b---c",
        ];
        assert_eq!(anchors(text), expected.map(str::to_owned).into());
    }

    #[test]
    fn a_link_is_followed_to_its_file_and_its_heading() {
        let root = workspace::root();
        let page = root.join("watermill-core/README.md");
        let is_well = |target: &str| fault(root, &page, target).unwrap().is_none();
        assert!(is_well("../README.md#backends") && is_well("src") && is_well("#features"));
        assert!(is_well(&format!("{OURS}forwarder/DAEMON.md#verbs")));
        let wrong = ["../readme.md", "../README.md#backend", "#no", "src/lib.rs#L1", "../../", "src#a"];
        assert_eq!(wrong.into_iter().find(|target| is_well(target)), None);
    }
}
