//! The run as one page that needs nothing else: no script, no font, no file beside it.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::html::escape;
use super::table::{cell, change, duration, label};
use super::{AnswerLine, Facts, Lines, SetSummary, Summary, plots, thumbnail};
use crate::engine::{EvaluationSet, Moment};

/// How many answers are shown at either end.
const SHOWN: usize = 6;

/// Characters of a completion that are shown.
const LONGEST: usize = 2000;

/// How to read the curves.
const KEY: &str = "<p class=\"note\">Dots: validation sets. Rings: test sets. Dashed: a stage ends.</p>";

/// The answers of the set that is shown.
#[derive(Clone, Debug, Default)]
pub(super) struct Answers {
    pub(super) before: Vec<AnswerLine>,
    pub(super) after: Vec<AnswerLine>,
}

/// The page; `curves` is a finished SVG, everything else is escaped here.
pub(super) fn render(
    facts: &Facts,
    summary: &Summary,
    lines: &Lines,
    answers: &Answers,
    curves: &str,
) -> String {
    let sections = [
        header(facts, summary),
        held_out(summary),
        section("Curves", &format!("{curves}{KEY}")),
        scores(summary, answers),
        extremes(answers),
        stages(facts, lines),
        evaluations(facts, lines),
        quarantine(summary),
        unreadable(summary),
        digests(facts),
        details("Resolved recipe", &format!("<pre>{}</pre>", escape(&facts.recipe_yaml))),
    ];
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{}</title>\n<style>\n{}</style>\n</head>\n<body>\n<main>\n{}</main>\n</body>\n</html>\n",
        escape(&facts.name),
        include_str!("page.css"),
        sections.concat()
    )
}

fn section(title: &str, body: &str) -> String {
    format!("<section>\n<h2>{}</h2>\n{body}\n</section>\n", escape(title))
}

fn details(title: &str, body: &str) -> String {
    format!("<section>\n<details>\n<summary>{}</summary>\n{body}\n</details>\n</section>\n", escape(title))
}

fn header(facts: &Facts, summary: &Summary) -> String {
    let skipped = if summary.skipped > 0 { format!(" ({} skipped)", summary.skipped) } else { String::new() };
    let stages: Vec<String> = facts
        .stages
        .iter()
        .map(|s| format!("{} ({})", s.name, format!("{:?}", s.kind).to_lowercase()))
        .collect();
    let checkpoint = facts.checkpoint.as_ref().map_or_else(|| "none".into(), |p| p.display().to_string());
    let rows = [
        ("Seed", facts.seed.to_string()),
        ("Recipe digest", facts.digest.clone()),
        ("Stages", stages.join(", ")),
        ("Steps", format!("{}{skipped}", summary.steps)),
        ("Time in steps and evaluations", duration(summary.seconds)),
        ("Checkpoint", checkpoint),
    ];
    let rows: String =
        rows.iter().map(|(name, value)| format!("<dt>{name}</dt><dd>{}</dd>\n", escape(value))).collect();
    format!(
        "<header>\n<h1>{}</h1>\n<div class=\"outcome\">Run <b>{}</b></div>\n<dl>\n{rows}</dl>\n</header>\n",
        escape(&facts.name),
        escape(&facts.outcome)
    )
}

fn held_out(summary: &Summary) -> String {
    if summary.sets.is_empty() {
        return section("Before and after", "<p class=\"note\">No held-out set was looked at.</p>");
    }
    let mut body: String = summary.sets.iter().map(before_after).collect();
    body = format!("<div class=\"sets\">{body}</div>");
    if let Some(reward) = summary.training_reward {
        let _ = write!(
            body,
            "<p class=\"note\">Mean reward in training: {} over the first {n} steps, {} over the last {n}.</p>",
            cell("reward", Some(reward.before)),
            cell("reward", Some(reward.after)),
            n = reward.steps
        );
    }
    let compared = format!("Before and after {}", summary.compared.join(", "));
    section(compared.trim_end(), &body)
}

fn before_after(set: &SetSummary) -> String {
    let column = |name: &str, point: &Option<super::Point>| match point {
        Some(point) => format!("<th>{name}, step {}</th>", point.step),
        None => format!("<th>{name}</th>"),
    };
    let samples = set.after.as_ref().or(set.before.as_ref()).map_or(0, |p| p.samples);
    let rows: String = ordered(set.names())
        .into_iter()
        .filter(|name| name != "samples")
        .map(|name| {
            let (before, after) = set.pair(&name);
            format!(
                "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>\n",
                escape(&label(&name)),
                cell(&name, before),
                cell(&name, after),
                change(&name, before, after)
            )
        })
        .collect();
    format!(
        "<div>\n<h3>{}, {samples} samples</h3>\n<table>\n<thead><tr><th></th>{}{}<th>change</th></tr></thead>\n\
         <tbody>\n{rows}</tbody>\n</table>\n</div>\n",
        set.set,
        column("before", &set.before),
        column("after", &set.after)
    )
}

/// Names once each: the well-known first, the rest by letter.
fn ordered<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    const FIRST: [&str; 8] =
        ["srcc", "plcc", "plcc_logistic", "krcc", "rmse", "format", "reward", "distinct_scores"];
    let names: BTreeSet<&str> = names.collect();
    let first = FIRST.into_iter().filter(|name| names.contains(name));
    let rest = names.iter().copied().filter(|name| !FIRST.contains(name));
    first.chain(rest).map(str::to_owned).collect()
}

fn scores(summary: &Summary, answers: &Answers) -> String {
    let set = summary.shown().map_or_else(String::new, |s| format!(" on the {} sets", s.set));
    plots::draw(&answers.before, &answers.after)
        .map_or_else(String::new, |plot| section(&format!("Predicted against true{set}"), &plot))
}

/// The answers nearest to and furthest from their labels; before training where there are none after.
fn extremes(answers: &Answers) -> String {
    let of = if answers.after.is_empty() { &answers.before } else { &answers.after };
    let error = |a: &AnswerLine| a.predicted.map(|p| (p - a.mos).abs()).filter(|e| e.is_finite());
    let mut scored: Vec<(f64, &AnswerLine)> = of.iter().filter_map(|a| Some((error(a)?, a))).collect();
    scored.sort_by(|a, b| a.0.total_cmp(&b.0));
    let half = SHOWN.min(scored.len().div_ceil(2));
    let best: String = scored[..half].iter().map(|(_, a)| article(a)).collect();
    let worst: String = scored[half..].iter().rev().take(SHOWN).map(|(_, a)| article(a)).collect();
    let unscored: String = of.iter().filter(|a| error(a).is_none()).take(SHOWN).map(article).collect();
    let groups = [("Smallest errors", best), ("Largest errors", worst), ("Without a score", unscored)];
    let body: String = groups
        .iter()
        .filter(|(_, articles)| !articles.is_empty())
        .map(|(title, articles)| format!("<h3>{title}</h3>\n<div class=\"answers\">\n{articles}</div>\n"))
        .collect();
    if body.is_empty() { body } else { section("Completions", &body) }
}

/// SHA-256 of what the run was made of.
fn digests(facts: &Facts) -> String {
    let row = |(name, digest): &(String, String)| {
        format!("<tr><td>{}</td><td class=\"mono\">{}</td></tr>\n", escape(name), escape(digest))
    };
    let recipe = ("recipe, resolved".to_owned(), facts.digest.clone());
    let rows: String = std::iter::once(&recipe).chain(&facts.digests).map(row).collect();
    details("Digests", &format!("<table>\n<tbody>\n{rows}</tbody>\n</table>"))
}

fn article(answer: &AnswerLine) -> String {
    let mut text: String = answer.text.chars().take(LONGEST).collect();
    if text.len() < answer.text.len() {
        text.push('…');
    }
    // A vision stage's head answers without a text.
    let wrong = !answer.format && !answer.text.is_empty();
    let format = if wrong { "<span class=\"trouble\">not in the format</span>" } else { "" };
    let text = if text.is_empty() { text } else { format!("<pre>{}</pre>\n", escape(&text)) };
    let picture = thumbnail::source(&answer.media)
        .map_or_else(String::new, |source| format!("<img alt=\"\" src=\"{source}\">\n"));
    let media = if answer.media.is_empty() { &answer.sample_id } else { &answer.media.join(", ") };
    format!(
        "<article>\n{picture}<header><b>predicted {}</b><span>label {}</span>{format}</header>\n\
         <div class=\"mono\" title=\"{}\">{}</div>\n{text}</article>\n",
        cell("score", answer.predicted),
        cell("score", Some(answer.mos)),
        escape(&answer.sample_id),
        escape(media)
    )
}

fn stages(facts: &Facts, lines: &Lines) -> String {
    let indices: BTreeSet<usize> = lines.steps.iter().map(|s| s.stage).collect();
    let rows: String = indices
        .into_iter()
        .map(|stage| {
            let steps: Vec<_> = lines.steps.iter().filter(|s| s.stage == stage).collect();
            let seconds: f64 = steps.iter().map(|s| s.seconds).filter(|s| s.is_finite()).sum();
            format!(
                "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{:.2} s</td>{}</tr>\n",
                escape(&facts.stage_name(stage)),
                steps.len(),
                steps.iter().filter(|s| s.skipped).count(),
                duration(seconds),
                seconds / steps.len() as f64,
                agreement(lines, stage)
            )
        })
        .collect();
    if rows.is_empty() {
        return rows;
    }
    let head = "<th>stage</th><th>steps</th><th>skipped</th><th>time</th><th>a step</th><th>held-out SRCC before</th>\
                <th>after</th><th>change</th>";
    section("Stages", &format!("<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table>"))
}

/// A stage's held-out SRCC before and after it, on the validation sets, else on the test sets.
fn agreement(lines: &Lines, stage: usize) -> String {
    let at = |set: EvaluationSet, before: bool| {
        let of = |e: &&super::EvaluationLine| {
            e.stage == stage && e.set == set && (e.moment == Moment::Before) == before
        };
        lines.evaluations.iter().rev().find(of).and_then(|e| e.metrics.get("srcc").copied())
    };
    let [validation, test] =
        [EvaluationSet::Validation, EvaluationSet::Test].map(|set| (at(set, true), at(set, false)));
    let (before, after) = if validation.0.is_some() && validation.1.is_some() { validation } else { test };
    let cells = [cell("srcc", before), cell("srcc", after), change("srcc", before, after)];
    cells.map(|value| format!("<td>{value}</td>")).concat()
}

fn evaluations(facts: &Facts, lines: &Lines) -> String {
    const SHOWN: [&str; 6] = ["srcc", "plcc", "rmse", "format", "reward", "distinct_scores"];
    if lines.evaluations.is_empty() {
        return String::new();
    }
    let head: String = SHOWN.iter().map(|name| format!("<th>{}</th>", label(name))).collect();
    let mut rows = String::new();
    for line in &lines.evaluations {
        let _ = write!(
            rows,
            "<tr><td>{}</td><td>{} {}</td><td>{}</td><td>{}</td>",
            line.step,
            line.moment,
            escape(&facts.stage_name(line.stage)),
            line.set,
            line.samples
        );
        for name in SHOWN {
            let _ = write!(rows, "<td>{}</td>", cell(name, line.metrics.get(name).copied()));
        }
        rows.push_str("</tr>\n");
    }
    let table = format!(
        "<table>\n<thead><tr><th>step</th><th>when</th><th>set</th><th>samples</th>{head}</tr></thead>\n\
         <tbody>\n{rows}</tbody>\n</table>"
    );
    details("All evaluations", &table)
}

fn quarantine(summary: &Summary) -> String {
    if summary.quarantined.is_empty() {
        return String::new();
    }
    let row = |found: &super::Quarantined| {
        let (sample, reason) = (escape(&found.sample), escape(&found.reason));
        format!("<tr><td>{sample}</td><td>{}</td><td>{reason}</td></tr>\n", found.step)
    };
    let rows: String = summary.quarantined.iter().map(row).collect();
    let head = "<thead><tr><th>sample</th><th>found in step</th><th>the last loss over it</th></tr></thead>";
    let title = format!("In quarantine, because workers died on it: {}", summary.quarantined.len());
    section(&title, &format!("<table>\n{head}\n<tbody>\n{rows}</tbody>\n</table>"))
}

fn unreadable(summary: &Summary) -> String {
    if summary.unreadable.is_empty() {
        return String::new();
    }
    let lines: String = summary.unreadable.iter().take(20).map(|l| format!("{}\n", escape(l))).collect();
    let title = format!("Lines that could not be read: {}", summary.unreadable.len());
    section(&title, &format!("<pre>{lines}</pre>"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{REPORT, example, write};

    fn page(facts: &Facts) -> String {
        let folder = tempfile::tempdir().expect("temporary folder");
        example::run(folder.path());
        write(folder.path(), facts).expect("written");
        std::fs::read_to_string(folder.path().join(REPORT)).expect("read")
    }

    #[test]
    fn markup_in_a_completion_stays_text() {
        let page = page(&example::facts());
        assert!(
            page.contains("&lt;/pre&gt;&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; sharp &amp; clean")
        );
        assert!(!page.contains("<script"));
    }

    #[test]
    fn markup_in_names_and_reasons_stays_text() {
        let wild = "<img src=x onerror=alert(1)>";
        let mut facts =
            Facts { name: wild.into(), outcome: wild.into(), digest: wild.into(), ..example::facts() };
        facts.stages[0].name = wild.into();
        facts.recipe_yaml = format!("</pre></details>{wild}");
        facts.checkpoint = Some(wild.into());
        assert!(!page(&facts).contains("<img"));
    }

    #[test]
    fn the_page_fetches_nothing() {
        let page = page(&example::facts()).replace("http://www.w3.org/2000/svg", "");
        assert!(["http:", "https:", "src=", "href=", "url("].iter().all(|f| !page.contains(f)));
    }

    #[test]
    fn a_completion_stands_beside_its_picture_which_is_in_the_page() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("a.png");
        let picture = vision::Rgb::new(40, 30, vec![90; 40 * 30 * 3]).expect("sized");
        std::fs::write(&path, vision::encode_png(&picture).expect("encoded")).expect("written");
        let answer = AnswerLine { media: vec![path.display().to_string()], ..example::answers(1).remove(0) };
        assert!(article(&answer).contains("<img alt=\"\" src=\"data:image/jpeg;base64,"));
        assert!(!article(&example::answers(1)[0]).contains("<img"), "a lost picture leaves no hole");
    }

    #[test]
    fn stages_say_what_they_gained_and_the_page_what_it_was_made_of() {
        let page = page(&example::facts());
        assert!(
            page.contains("<td>0.300</td><td>0.780</td><td>+0.480</td>"),
            "validation before and after the stage"
        );
        assert!(page.contains("<td>train.jsonl</td><td class=\"mono\">aa11</td>"));
    }

    #[test]
    fn no_answer_is_shown_at_both_ends() {
        let articles = |n| {
            let answers = Answers { before: Vec::new(), after: example::answers(n) };
            extremes(&answers).matches("<article>").count()
        };
        assert_eq!([0, 1, 2, 3, 5].map(articles), [0, 1, 2, 3, 5]);
    }

    #[test]
    fn an_answer_without_a_text_is_not_blamed_for_its_format() {
        let answer = AnswerLine { text: String::new(), format: false, ..example::answers(1).remove(0) };
        assert!(!article(&answer).contains("not in the format") && !article(&answer).contains("<pre>"));
    }

    #[test]
    fn a_long_completion_is_cut() {
        let answer = AnswerLine { text: "é".repeat(LONGEST + 5), ..example::answers(1).remove(0) };
        assert!(article(&answer).contains("é…</pre>"));
        assert_eq!(article(&answer).matches('é').count(), LONGEST);
    }
}
