#![allow(clippy::unwrap_used)]
use super::*;
use crate::report::{Foresight, StepHeading, Stream};

const START: StepNumber = StepNumber(0);

fn tty() -> (Tty, Instant) {
    let start = Instant::now();
    let mut tty = Tty::new(start, false);
    tty.paint.unicode = true;
    let heading = |number, title: &str| StepHeading {
        number: StepNumber(number),
        place: format!("[{}/3]", number + 1),
        title: title.to_owned(),
        platform: None,
        needs: Vec::new(),
        owner: 0,
        lines: None,
    };
    tty.event(
        start,
        &Event::Planned(vec![heading(0, "RUN make all"), heading(1, "RUN long title that goes on and on")]),
    );
    (tty, start)
}

fn frame(tty: &Tty, rows: usize, columns: usize, at: Instant) -> String {
    tty.frame(Size { rows, columns }, at).join("\n")
}

#[test]
fn a_running_step_shows_reason_time_and_last_output() {
    let (mut tty, start) = tty();
    tty.event(start, &Event::Started(START));
    tty.event(start, &Event::Missed { step: START, why: Some("a.c changed".to_owned()) });
    for number in 0..9 {
        let line = format!("line\t{number}");
        tty.event(start, &Event::Log { step: START, stream: Stream::Stdout, line });
    }
    tty.event(start, &Event::Bytes { step: START, what: "abc".to_owned(), done: 500, total: 1000 });
    assert_eq!(
        frame(&tty, 5, 50, start + Duration::from_millis(2300)),
        "\
⣷ [1/3] RUN make all (a.c changed)            2.3s
    line    6
    line    7
    line    8
0 of 2 steps done, 2.3s"
    );
    assert!(frame(&tty, 9, 60, start).contains("━━━━────"));
    tty.paint.unicode = false;
    assert!(frame(&tty, 9, 60, start).is_ascii());
}

#[test]
fn a_line_that_has_not_ended_is_shown_in_its_place() {
    let (mut tty, start) = tty();
    tty.event(start, &Event::Started(START));
    let so_far = |line: &str| Event::LogSoFar { step: START, line: line.to_owned() };
    for line in ["10 %", "\r50 %", "\r50 %\r90 %"] {
        tty.event(start, &so_far(line));
    }
    let frame = |tty: &Tty| {
        let lines = tty.frame(Size { rows: 9, columns: 40 }, start);
        lines[1..lines.len() - 1].join("|")
    };
    assert_eq!(frame(&tty), "    90 %");
    let line = "\r50 %\r90 %\rdone\r".to_owned();
    tty.event(start, &Event::Log { step: START, stream: Stream::Stdout, line });
    assert_eq!(frame(&tty), "    done");
    tty.event(start, &so_far("next? "));
    assert_eq!(frame(&tty), "    done|    next? ");
}

#[test]
fn the_last_line_says_how_far_the_build_is() {
    let (mut tty, start) = tty();
    let at = |seconds| start + Duration::from_secs(seconds);
    let last = |tty: &Tty, rows| tty.frame(Size { rows, columns: 40 }, at(75)).pop().unwrap_or_default();
    assert_eq!(last(&tty, 9), "", "nothing runs");
    tty.event(at(1), &Event::Started(START));
    tty.event(at(1), &Event::Started(StepNumber(1)));
    let done = Event::Finished {
        step: START,
        outcome: Outcome::Cached,
        took: Duration::ZERO,
        result: Box::default(),
    };
    tty.event(at(2), &done);
    assert_eq!(last(&tty, 9), "1 of 2 steps done, 1m15s");
    assert!(last(&tty, 1).contains("RUN long title"), "what runs comes first");
    tty.event(at(2), &Event::Failed { step: StepNumber(1), took: Duration::ZERO, usage: None });
    assert_eq!(last(&tty, 9), "", "nothing runs any more");
}

#[test]
fn the_step_that_most_wait_for_is_marked() {
    let start = Instant::now();
    let mut tty = Tty::new(start, false);
    let heading = |number: usize, needs: &[usize]| StepHeading {
        number: StepNumber(number),
        place: String::new(),
        title: format!("RUN {number}"),
        platform: None,
        needs: needs.iter().map(|needed| StepNumber(*needed)).collect(),
        owner: 0,
        lines: None,
    };
    let all = vec![heading(0, &[]), heading(1, &[]), heading(2, &[1]), heading(3, &[2]), heading(4, &[0, 3])];
    tty.event(start, &Event::Planned(all));
    tty.event(start, &Event::Started(StepNumber(0)));
    assert!(!frame(&tty, 9, 60, start).contains("wait"), "it is alone");
    tty.event(start, &Event::Started(StepNumber(1)));
    let text = frame(&tty, 9, 60, start);
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[1].contains("▸RUN 1 (3 wait for it)") && !lines[0].contains("wait"), "{text}");
    assert!(!frame(&tty, 9, 16, start).contains("wait"), "there is no room");
    // Earlier builds tell more.
    let times: Vec<_> = [60, 4, 3, 2, 1].map(|seconds| Some(Duration::from_secs(seconds))).to_vec();
    tty.event(start, &Event::Foreseen(Foresight::new(move || times.clone())));
    tty.ahead.look(Duration::from_secs(1));
    let at = start + Duration::from_secs(1);
    let text = frame(&tty, 9, 60, at);
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].contains("▸RUN 0 (critical path, 1 wait for it)"), "{text}");
    assert_eq!(lines[2], "0 of 5 steps done, 1.0s, about 1m00s left");
    assert!(frame(&tty, 9, 30, at).ends_with("0 of 5 done, 1.0s, 1m00s left"));
    assert!(frame(&tty, 9, 16, at).contains("▸RUN 0"));
    let (step, took) = (StepNumber(1), Duration::ZERO);
    tty.event(start, &Event::Finished { step, outcome: Outcome::Ran, took, result: Box::default() });
    let text = frame(&tty, 9, 60, start + Duration::from_secs(5));
    assert!(text.contains("  RUN 2 waits for its turn "), "{text}");
}

#[test]
fn many_steps_that_cost_nothing_are_one_line() {
    for (count, expected) in [
        (2, "✔ [1/3] RUN make all cached\n✔ [2/3] RUN long title that goes on and on cached"),
        (5, "✔ 5 steps cached"),
    ] {
        let (mut tty, start) = tty();
        for number in 0..count {
            let done = Event::Finished {
                step: StepNumber(number % 2),
                outcome: Outcome::Cached,
                took: Duration::ZERO,
                result: Box::default(),
            };
            tty.event(start, &done);
        }
        assert_eq!(tty.unfold().as_deref(), Some(expected));
        assert_eq!(tty.unfold(), None);
    }
}

#[test]
fn steps_that_change_the_configuration_only_are_not_called_cached() {
    use Outcome::{Cached, ConfigOnly};
    for (outcomes, expected) in [
        ([Cached, Cached, ConfigOnly, ConfigOnly], "✔ 2 steps cached, 2 configuration only"),
        ([ConfigOnly, Cached, ConfigOnly, ConfigOnly], "✔ 1 step cached, 3 configuration only"),
        ([ConfigOnly, ConfigOnly, ConfigOnly, ConfigOnly], "✔ 4 steps configuration only"),
    ] {
        let (mut tty, start) = tty();
        for (number, outcome) in outcomes.into_iter().enumerate() {
            let (step, took) = (StepNumber(number % 2), Duration::ZERO);
            tty.event(start, &Event::Finished { step, outcome, took, result: Box::default() });
        }
        assert_eq!(tty.unfold().as_deref(), Some(expected));
    }
}

#[test]
fn no_line_is_wider_and_no_frame_higher_than_the_terminal() {
    let (mut tty, start) = tty();
    for step in [START, StepNumber(1)] {
        tty.event(start, &Event::Started(step));
        let line = "wide 宽宽宽宽宽宽宽宽宽宽宽宽宽 \u{1b}[31mred\u{1b}[0m ".repeat(9);
        tty.event(start, &Event::Log { step, stream: Stream::Stderr, line });
    }
    for rows in 1..8 {
        for columns in [10, 20, 33, 80] {
            let frame = tty.frame(Size { rows, columns }, start);
            assert!(frame.len() <= rows);
            for line in &frame {
                assert!(crate::text::terminal::columns(line) <= columns, "{columns}: {line}");
            }
        }
    }
}
