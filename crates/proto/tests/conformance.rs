//! docs/conformance.md against the lists of the RFCs' sentences, and against the files and tests that it names.

#![allow(clippy::unwrap_used, reason = "a test ends where something is missing")]

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A row of the table: section, sentence, verdict, and what is said about it.
struct Row {
    section: String,
    sentence: String,
    verdict: String,
    why: String,
}

/// Rows by RFC.
fn rows() -> HashMap<String, Vec<Row>> {
    let text = fs::read_to_string(root().join("docs/conformance.md")).unwrap();
    let mut out: HashMap<String, Vec<Row>> = HashMap::new();
    let mut rfc = String::new();
    for line in text.lines() {
        if let Some(number) = line.strip_prefix("## RFC ") {
            rfc = number.to_owned();
        }
        let Some(cells) = line.strip_prefix("| ").and_then(|l| l.strip_suffix(" |")) else { continue };
        let [section, sentence, verdict, why] = cells.splitn(4, " | ").collect::<Vec<_>>()[..] else {
            panic!("not four cells: {line}")
        };
        if section != "section" {
            let row = Row {
                section: section.to_owned(),
                sentence: sentence.replace("&#124;", "|"),
                verdict: verdict.to_owned(),
                why: why.to_owned(),
            };
            out.entry(rfc.clone()).or_default().push(row);
        }
    }
    out
}

#[test]
fn every_sentence_is_there_once_and_quoted_rightly() {
    let rows = rows();
    for rfc in ["9000", "9001", "9002"] {
        let list = fs::read_to_string(root().join(format!("docs/conformance/rfc{rfc}.txt"))).unwrap();
        let listed: Vec<(&str, &str)> = list.lines().map(|l| l.split_once('\t').unwrap()).collect();
        let quoted: Vec<(&str, &str)> = rows[rfc].iter().map(|r| (&*r.section, &*r.sentence)).collect();
        assert!(listed.len() > 25, "RFC {rfc} has more rules than {}", listed.len());
        for (i, (listed, quoted)) in listed.iter().zip(&quoted).enumerate() {
            assert_eq!(listed, quoted, "RFC {rfc}, row {i}");
        }
        assert_eq!(listed.len(), quoted.len(), "RFC {rfc}");
    }
}

#[test]
fn every_row_has_a_verdict_with_a_reason() {
    for row in rows().values().flatten() {
        let place = row.why.contains('`') || row.why.starts_with("rustls: ");
        match &*row.verdict {
            "yes" => assert!(place, "{}: {} does not say where", row.section, row.sentence),
            "in part" | "open" | "n/a" => assert!(row.why.len() > 20, "{}: {}", row.section, row.sentence),
            other => panic!("{}: verdict {other}", row.section),
        }
    }
}

/// Every `path` and `path`::`test` that the document names.
#[test]
fn every_file_and_every_test_exists() {
    let mut files: HashMap<String, String> = HashMap::new();
    for row in rows().values().flatten() {
        for (path, test) in names(&row.why) {
            let text = files.entry(path.clone()).or_insert_with(|| {
                fs::read_to_string(root().join(&path)).unwrap_or_else(|e| panic!("{}: {path}: {e}", row.section))
            });
            if let Some(test) = test {
                assert!(text.contains(&format!("fn {test}(")), "{}: {path} has no {test}", row.section);
            }
        }
    }
    assert!(files.len() > 40);
}

fn names(why: &str) -> Vec<(String, Option<String>)> {
    let pieces: Vec<&str> = why.split('`').collect();
    let mut out = Vec::new();
    let mut i = 1;
    while i < pieces.len() {
        if pieces[i].contains('/') {
            let has_test = pieces.get(i + 1) == Some(&"::");
            out.push((pieces[i].to_owned(), has_test.then(|| pieces[i + 2].to_owned())));
            i += if has_test { 4 } else { 2 };
        } else {
            i += 2;
        }
    }
    out
}
