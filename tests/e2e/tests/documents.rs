//! The SQL in the documents: each statement of a block of SQL is run as it stands there, one after
//! the other in a new database, and what is shown below it is what it prints. A statement with
//! nothing below it must not fail.

use std::fs::{self, File};

use allsource_e2e::cluster::{SERVED, STORE, project_dir};
use allsource_e2e::{Cluster, bulk};

/// A statement, and what the document shows below it.
#[derive(Debug, PartialEq, Eq)]
struct Example<'a> {
    line: usize,
    sql: Vec<&'a str>,
    shown: Vec<&'a str>,
}

/// How a line begins that is no output.
const BEGINNINGS: [&str; 15] = [
    "SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", "ALTER", "DROP", "GRANT", "SET", "BEGIN",
    "COMMIT", "ROLLBACK", "CALL", "DO", "--",
];

/// Whether the line is the last one of a statement, `quotes` being the `$$` so far.
fn ends(line: &str, quotes: usize) -> bool {
    let code = line.split(" --").next().unwrap_or_default();
    quotes.is_multiple_of(2) && code.trim_end().ends_with(';')
}

fn is_output(line: &str) -> bool {
    let begins = |word: &str| line.split([' ', ';']).next() == Some(word);
    !line.trim().is_empty() && !BEGINNINGS.into_iter().any(begins)
}

/// The statements of the blocks of SQL.
fn examples(document: &str) -> Vec<Example<'_>> {
    let mut examples: Vec<Example<'_>> = Vec::new();
    let (mut in_block, mut in_statement, mut quotes) = (false, false, 0);
    for (index, line) in document.lines().enumerate() {
        if line.starts_with("```") {
            assert!(!in_statement, "line {}: the statement before has no end", index + 1);
            in_block = line == "```sql";
        } else if in_block && in_statement {
            let example = examples.last_mut().expect("the statement");
            example.sql.push(line);
        } else if in_block && is_output(line) {
            examples.last_mut().expect("a statement before its output").shown.push(line);
        } else if in_block && !line.is_empty() && !line.starts_with("--") {
            examples.push(Example { line: index + 1, sql: vec![line], shown: Vec::new() });
            (in_statement, quotes) = (true, 0);
        }
        if in_statement {
            quotes += line.matches("$$").count();
            in_statement = !ends(line, quotes);
        }
    }
    examples
}

/// What psql prints, its errors in their places.
fn psql(cluster: &Cluster, script: &str) -> String {
    let name = cluster.socket().to_string_lossy().replace('/', "-");
    let path = |end: &str| std::env::temp_dir().join(format!("allsource{name}{end}"));
    fs::write(path(".sql"), script).expect("the script");
    let out = File::create(path(".out")).expect("a file");
    let status = cluster
        .tool("psql")
        .args(["-X", "-q", "-d", STORE])
        .stdin(File::open(path(".sql")).expect("the script"))
        .stderr(out.try_clone().expect("the file twice"))
        .stdout(out)
        .status()
        .expect("psql");
    let printed = fs::read_to_string(path(".out")).expect("what psql printed");
    for end in [".sql", ".out"] {
        fs::remove_file(path(end)).expect("a file of this test");
    }
    assert!(status.success(), "psql: {printed}");
    printed
}

/// What psql prints for each of the examples.
fn run(cluster: &Cluster, examples: &[Example<'_>]) -> Vec<String> {
    const MARK: &str = "=== next ===\n";
    let mut script = "\\pset footer off\n\
                      SET client_min_messages = warning; SET timezone = 'UTC';\n\
                      SET search_path = allsource, public;\n"
        .to_owned();
    for example in examples {
        script += &format!("\\echo '{}'\n{}\n", MARK.trim_end(), example.sql.join("\n"));
    }
    let printed = psql(cluster, &script);
    let parts: Vec<_> = printed.split(MARK).skip(1).map(str::to_owned).collect();
    assert_eq!(parts.len(), examples.len(), "psql has not run all: {printed}");
    parts
}

/// Lines without blanks at their ends, and without an empty one at the end.
fn lines(text: &str) -> Vec<&str> {
    text.trim_end().lines().map(str::trim_end).collect()
}

fn check(document: &str) {
    let name = document.rsplit(['/', '.']).nth(1).expect("a name").to_lowercase();
    let text = fs::read_to_string(project_dir().join(document)).expect(document);
    let examples = examples(&text);
    assert!(examples.len() > 5, "{document} has {} statements", examples.len());
    let cluster = Cluster::start(&format!("documents-{name}"), &[SERVED]);
    cluster.create_database(STORE);
    if !text.contains("\nCREATE EXTENSION allsource;") {
        cluster.execute(STORE, "CREATE EXTENSION allsource");
        bulk::workers_up(&mut cluster.store());
    }
    for (example, printed) in examples.iter().zip(run(&cluster, &examples)) {
        let shown = lines(&example.shown.join("\n")).join("\n");
        let printed = lines(&printed).join("\n");
        let place = format!("{document}:{}: {}", example.line, example.sql.join("\n"));
        if shown.is_empty() {
            assert!(!printed.contains("ERROR:  "), "{place}\n{printed}");
        } else {
            assert_eq!(printed, shown, "{place}");
        }
    }
}

#[test]
fn examples_of_the_readme() {
    check("README.md");
}

#[test]
fn examples_of_the_guide() {
    check("docs/GUIDE.md");
}

#[test]
fn examples_about_ingestion() {
    check("docs/INGESTION.md");
}

#[test]
fn examples_about_hot_partitions() {
    check("docs/HOT_PARTITIONS.md");
}

#[test]
fn examples_about_operations() {
    check("docs/OPERATIONS.md");
}

#[test]
fn statements_and_their_output_are_told_apart() {
    let document = "```sql\nSELECT 1,  -- one;\n  2;\n a \n---\n 1\n\nDO $$\nx;\n$$;\nSET a = b;  -- c\n```\nSELECT\n";
    let found: Vec<_> =
        examples(document).into_iter().map(|e| (e.line, e.sql.len(), e.shown.len())).collect();
    assert_eq!(found, [(2, 2, 3), (8, 3, 0), (11, 1, 0)]);
}
