//! `coordinator submit`: a run as a Slurm job that goes on by itself after a lost node and at the end of its time.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use settings::{Hosts, Launcher, Run};

use crate::failure::Failure;
use crate::folder::{self, RunFolder};
use crate::journal::{self, Lead};
use crate::tell;

/// The job's script, with `@WORDS@` in place of what depends on the run.
const TEMPLATE: &str = include_str!("../../../deploy/slurm/run.sbatch");
/// The script in the run folder.
const SCRIPT: &str = "submit.sbatch";

/// Arguments of `coordinator submit`.
#[derive(clap::Args)]
pub struct Args {
    /// The host file, with launcher: slurm.
    #[arg(long, value_name = "HOSTS.yaml")]
    nodes: PathBuf,
    /// The recipe.
    #[arg(long, value_name = "RUN.yaml")]
    recipe: PathBuf,
    /// Lays a value over the recipe's; may be given many times.
    #[arg(long = "set", value_name = "key=value")]
    set: Vec<String>,
    /// The run folder, instead of the recipe's run.output; on a file system that all nodes share.
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Prints the script, and submits nothing.
    #[arg(long)]
    dry_run: bool,
}

/// Submits.
///
/// # Errors
/// Wrong input (2), or sbatch refuses (1).
#[allow(clippy::needless_pass_by_value, reason = "every command's run takes its arguments by value")]
pub fn run(args: Args) -> Result<(), Failure> {
    let hosts = settings::load_hosts(&args.nodes).map_err(Failure::input)?;
    if hosts.launcher != Launcher::Slurm {
        let file = args.nodes.display();
        return Err(Failure::input(format!(
            "{file}: submit is for launcher: slurm; expected it in the host file"
        )));
    }
    let mut set = args.set.clone();
    set.extend(args.output.as_ref().map(|output| format!("run.output={}", output.display())));
    let run = settings::load_run(&args.recipe, &set).map_err(Failure::input)?;
    let output = std::path::absolute(&run.run.output).map_err(Failure::other)?;
    let lead = Lead::of(&output.join(journal::FILE));
    let command = command(&args, &output)?;
    let script = script(&run, &hosts, &output, &lead, &command)?;
    if args.dry_run {
        return tell::out(script.trim_end());
    }
    run.check_files().map_err(Failure::input)?;
    let folder = RunFolder::make(&output)
        .and_then(|folder| folder.write(SCRIPT, script.as_bytes()))
        .map_err(|e| Failure::input(format!("{}: {e}; expected a folder to write to", output.display())))?;
    tell::out(sbatch(&folder)?)
}

/// The id of the job that sbatch makes of a script.
fn sbatch(script: &Path) -> Result<String, Failure> {
    let output =
        Command::new("sbatch").arg("--parsable").arg(script).output().map_err(|e| {
            Failure::input(format!("cannot run sbatch: {e}; expected Slurm's programs on PATH"))
        })?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if !output.status.success() {
        return Err(Failure::other(format!("sbatch refuses {}: {}", script.display(), text(&output.stderr))));
    }
    let answer = text(&output.stdout);
    Ok(answer.split(';').next().unwrap_or_default().to_owned())
}

/// The coordinator's command line in the job: paths as they are now, wherever the job begins.
fn command(args: &Args, output: &Path) -> Result<String, Failure> {
    let program = std::env::current_exe().map_err(Failure::other)?;
    let absolute = |path: &Path| std::path::absolute(path).map_err(Failure::other);
    let mut words = vec![shown(&program), "--nodes".into(), shown(&absolute(&args.nodes)?)];
    words.extend(["--recipe".into(), shown(&absolute(&args.recipe)?), "--output".into(), shown(output)]);
    words.extend(args.set.iter().flat_map(|set| ["--set".to_owned(), set.clone()]));
    Ok(words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "))
}

fn script(run: &Run, hosts: &Hosts, output: &Path, lead: &Lead, command: &str) -> Result<String, Failure> {
    let slurm = &hosts.slurm;
    let nodes = if slurm.nodes > 0 { slurm.nodes as usize } else { hosts.hosts.len() };
    if nodes == 0 {
        return Err(Failure::input(
            "slurm.nodes is missing; expected a number of nodes, or hosts in the host file",
        ));
    }
    let mut options = Vec::new();
    options.extend(slurm.partition.as_ref().map(|partition| format!("--partition={partition}")));
    options.extend(slurm.time.as_ref().map(|time| format!("--time={time}")));
    if slurm.gpus_per_node > 0 {
        options.push(format!("--gres=gpu:{}", slurm.gpus_per_node));
    }
    if !hosts.hosts.is_empty() {
        let names: Vec<_> = hosts.hosts.iter().map(|host| host.name.as_str()).collect();
        options.push(format!("--nodelist={}", names.join(",")));
    }
    options.extend(slurm.extra.iter().cloned());
    let options = options.iter().fold(String::new(), |mut text, option| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "#SBATCH {option}");
        text
    });
    let directory = std::env::current_dir().map_err(Failure::other)?;
    let log = output.join("logs/job-%j.log");
    let log = shown(&log);
    if log.contains(char::is_whitespace) || log.contains(['"', '\'', '\\']) {
        return Err(Failure::input(format!(
            "run.output {log}: expected a path without blanks and quotes under Slurm"
        )));
    }
    // Told in its first half, a short job would get nowhere.
    let half = slurm.time.as_deref().and_then(limit).map_or(u64::MAX, |limit| limit / 2);
    let seconds = lead.seconds().min(half);
    let words = [
        ("@NAME@", run.run.name.clone()),
        ("@NODES@", nodes.to_string()),
        ("@LOG@", log),
        ("@WHY@", lead.why()),
        ("@LEAD@", seconds.to_string()),
        ("@NEEDED@", quoted(&shown(&output.join(folder::LEAD)))),
        ("@OPTIONS@", options.trim_end().to_owned()),
        ("@DIRECTORY@", quoted(&shown(&directory))),
        ("@PAUSE@", "10".into()),
        ("@COORDINATOR@", command.to_owned()),
    ];
    Ok(words.iter().fold(TEMPLATE.to_owned(), |text, (word, value)| text.replace(word, value)))
}

/// Seconds of a time limit as sbatch takes it: `M`, `M:S`, `H:M:S`, `D-H`, `D-H:M`, `D-H:M:S`. `None`: no such limit.
fn limit(time: &str) -> Option<u64> {
    let (days, rest) = time.split_once('-').map_or((None, time), |(days, rest)| (Some(days), rest));
    let parts = rest.split(':').map(|part| part.parse().ok()).collect::<Option<Vec<u64>>>()?;
    let (hours, minutes, seconds) = match (days, parts.as_slice()) {
        (None, [minutes]) => (0, *minutes, 0),
        (None, [minutes, seconds]) => (0, *minutes, *seconds),
        (Some(_), [hours]) => (*hours, 0, 0),
        (Some(_), [hours, minutes]) => (*hours, *minutes, 0),
        (_, [hours, minutes, seconds]) => (*hours, *minutes, *seconds),
        _ => return None,
    };
    let days: u64 = days.map_or(Some(0), |days| days.parse().ok())?;
    let total = [(days, 86_400), (hours, 3_600), (minutes, 60), (seconds, 1)];
    total.iter().try_fold(0_u64, |sum, (count, unit)| sum.checked_add(count.checked_mul(*unit)?))
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// A word for bash.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(hosts: &str) -> Result<String, Failure> {
        let hosts = settings::parse_hosts("h", hosts).expect("a host file");
        let run = settings::default_run(&[]).expect("defaults");
        script(&run, &hosts, Path::new("/shared/run"), &Lead::Unknown, "'/bin/coordinator' '--set' 'a=b'")
    }

    #[test]
    fn a_job_asks_for_what_the_host_file_says_and_leaves_no_word_open() {
        let text = rendered(
            "launcher: slurm\nslurm: { partition: gpu, time: '1-00:00:00', gpus_per_node: 8, nodes: 4, extra: ['--account=x'] }\n",
        )
        .expect("a script");
        for line in [
            "#SBATCH --nodes=4",
            "#SBATCH --partition=gpu",
            "#SBATCH --time=1-00:00:00",
            "#SBATCH --gres=gpu:8",
            "#SBATCH --account=x",
            "#SBATCH --no-kill",
            "#SBATCH --requeue",
            "#SBATCH --signal=B:USR1@300",
            "#SBATCH --output=/shared/run/logs/job-%j.log",
            "  '/bin/coordinator' '--set' 'a=b' --resume &",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in:\n{text}");
        }
        let open = text.split('@').collect::<Vec<_>>();
        assert_eq!(open.len(), 2, "only the signal's own @ is left:\n{text}");
    }

    #[test]
    fn named_hosts_are_asked_for_by_name_and_none_at_all_is_refused() {
        let hosts = "launcher: slurm\nhosts: [{ name: n1, workers: 1 }, { name: n3, workers: 1 }]\n";
        let text = rendered(hosts).expect("a script");
        assert!(
            text.contains("#SBATCH --nodelist=n1,n3\n") && text.contains("#SBATCH --nodes=2\n"),
            "{text}"
        );
        assert!(
            rendered("launcher: slurm\n").expect_err("no nodes").message.contains("slurm.nodes is missing")
        );
    }

    #[test]
    fn a_time_limit_is_read_as_sbatch_reads_it_and_a_short_job_is_told_in_its_second_half() {
        let limits = [
            ("90", Some(5_400)),
            ("2:30", Some(150)),
            ("1:00:00", Some(3_600)),
            ("2-12", Some(216_000)),
            ("1-00:30", Some(88_200)),
            ("1-00:00:01", Some(86_401)),
            ("UNLIMITED", None),
            ("1:2:3:4", None),
            ("99999999999999999999", None),
            ("99999999999999999-1", None),
        ];
        for (text, seconds) in limits {
            assert_eq!(limit(text), seconds, "{text}");
        }
        let text = rendered("launcher: slurm\nslurm: { nodes: 1, time: '4' }\n").expect("a script");
        assert!(text.contains("#SBATCH --signal=B:USR1@120\n"), "{text}");
    }
}
