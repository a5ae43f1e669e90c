//! What `make cluster-demo` shows of the cluster in a folder, given as the argument: an application at work while a group
//! is added, partitions move to it, and a primary is killed. The exit status is not 0 if anything is lost or wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use allsource_e2e::ledger::ticket_of;
use allsource_e2e::{Groups, Load, Outcome, VectorTail, calls};

const WRITERS: usize = 16;
const CALLS_PER_S: u32 = 1_000;
const QUIET: Duration = Duration::from_secs(3);
const ADDED: i32 = 3;
const KILLED: i32 = 2;

/// How long appends to some partitions took at most.
struct Pause {
    what: String,
    longest: Duration,
    elsewhere: Option<Duration>,
    errors: usize,
}

fn main() -> ExitCode {
    let Some(base) = std::env::args().nth(1) else {
        eprintln!("usage: cluster-demo FOLDER");
        return ExitCode::FAILURE;
    };
    let groups = Groups::at(Path::new(&base));
    let load = Load::start(&groups.config(), WRITERS, CALLS_PER_S);
    say(&format!(
        "{WRITERS} writers, {CALLS_PER_S} appends a second together, and a reader that follows"
    ));
    let mut pauses = vec![Pause::of("nothing happens", &load, &all(), None, || sleep(QUIET))];
    say(&format!("adding group {ADDED}"));
    pauses.push(Pause::of("a group is added", &load, &all(), None, || {
        groups.cluster("add", &[&ADDED.to_string()]);
    }));

    say(&format!("moving partitions to group {ADDED}"));
    let plan = moves(&groups, "SELECT partition_id FROM allsource.es_rebalance_plan()");
    let what = format!("{} partitions move", plan.len());
    pauses.push(Pause::of(&what, &load, &plan, Some(&others(&plan)), || {
        groups.cluster("spread", &[]);
        load.until_written(&plan);
    }));

    let (node, hit) = (groups.primary(KILLED), groups.partitions(KILLED));
    say(&format!("SIGKILL to node {node} of group {KILLED}, its primary"));
    let what = format!("the primary of group {KILLED} is killed");
    pauses.push(Pause::of(&what, &load, &hit, Some(&others(&hit)), || {
        groups.node("kill", KILLED, node);
        groups.until_replaced(KILLED, node);
        load.until_written(&hit);
    }));
    sleep(QUIET);

    let outcome = load.finish();
    say("reading everything, and comparing it with what was acknowledged");
    report(&groups, &outcome, &pauses)
}

impl Pause {
    fn of(
        what: &str,
        load: &Load,
        partitions: &[i32],
        others: Option<&[i32]>,
        action: impl FnOnce(),
    ) -> Self {
        let (since, errors) = (Instant::now(), load.errors());
        action();
        Self {
            what: what.to_owned(),
            longest: load.longest_since(since, partitions),
            elsewhere: others.map(|others| load.longest_since(since, others)),
            errors: load.errors() - errors,
        }
    }
}

fn report(groups: &Groups, outcome: &Outcome, pauses: &[Pause]) -> ExitCode {
    let mut client = groups.connect();
    let content = VectorTail::read_to_end(&mut client).expect("es_read_all_from");
    let own = Outcome::own(&content);
    let distinct: BTreeSet<_> = own.iter().filter_map(ticket_of).collect();
    // Every writer has repeated its calls until they were acknowledged.
    let lost = outcome.acknowledged - distinct.len().min(outcome.acknowledged);
    let mut faults = outcome.ledger.faults(&own);
    faults.extend(outcome.tail.faults(&content));
    faults.extend(groups.ownership_faults());
    let damage = calls::verify(&mut client).expect("es_verify");

    println!(
        "\n    while                                   longest append   to other partitions   errors seen"
    );
    for pause in pauses {
        let elsewhere = pause.elsewhere.map_or("-".to_owned(), ms);
        println!(
            "    {:<40}{:>14}{elsewhere:>22}{:>14}",
            pause.what,
            ms(pause.longest),
            pause.errors
        );
    }
    let fences = "SELECT COALESCE(max(extract(epoch FROM fence_time)), 0)::float8 FROM allsource.es_moves() \
                  WHERE target_id = $1";
    let fence: f64 = groups.coordinator().query_one(fences, &[&ADDED]).expect("es_moves").get(0);
    println!("\n    appends a second                   {:>9.0}", outcome.calls_per_s);
    println!("    longest fence of a move            {:>9}", ms(Duration::from_secs_f64(fence)));
    println!("    events acknowledged                {:>9}", outcome.acknowledged);
    println!("        of these lost                  {lost:>9}");
    println!("        there twice                    {:>9}", own.len() - distinct.len());
    println!("    events there, with the history     {:>9}", content.len());
    println!("        of these seen by the reader    {:>9}", outcome.tail.len());
    println!("    faults found by es_verify          {:>9}", damage.len());
    for (error, count) in &outcome.errors {
        println!("    error seen {count} times: {error}");
    }
    println!("\n    partitions");
    let mut owned: BTreeMap<i32, Vec<String>> = BTreeMap::new();
    for (partition, group) in groups.map() {
        owned.entry(group).or_default().push(partition.to_string());
    }
    for (group, partitions) in owned {
        let primary = groups.primary(group);
        println!("        group {group}, primary node {primary}: {}", partitions.join(" "));
    }
    if faults.is_empty() && damage.is_empty() && lost == 0 {
        return ExitCode::SUCCESS;
    }
    for fault in faults.iter().chain(&damage).take(20) {
        println!("    FAULT: {fault}");
    }
    ExitCode::FAILURE
}

fn moves(groups: &Groups, query: &str) -> Vec<i32> {
    let rows = groups.coordinator().query(query, &[]).expect(query);
    rows.iter().map(|row| row.get(0)).collect()
}

fn all() -> Vec<i32> {
    (0..32).collect()
}

fn others(partitions: &[i32]) -> Vec<i32> {
    all().into_iter().filter(|partition| !partitions.contains(partition)).collect()
}

fn ms(duration: Duration) -> String {
    if duration < Duration::from_secs(1) {
        format!("{} ms", duration.as_millis())
    } else {
        format!("{:.1} s", duration.as_secs_f64())
    }
}

fn say(what: &str) {
    println!("==> {what}");
}
