//! Open files. Each connection is one, and so is each file of rows, of spilled ones and of the
//! store: where connections take them all, statements of those who are served fail.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files for all but clients of Flight SQL: rows, what spills, the store, workers, HTTP pages.
const RESERVE: usize = 768;

/// Raises the soft limit, which shells and systemd set low for programs that number files by few
/// bits, to the hard one, and tells how many files may be open then.
pub fn raise() -> usize {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return count(limit.current);
    }
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => count(limit.maximum),
        Err(error) => {
            tracing::warn!(%error, "the soft limit of open files is not raised to the hard one");
            count(limit.current)
        }
    }
}

/// None is without a limit.
fn count(limit: Option<u64>) -> usize {
    limit.map_or(usize::MAX, |files| {
        usize::try_from(files).unwrap_or(usize::MAX)
    })
}

/// The connections that each of some listeners takes, so that files are left for what they ask.
/// A limit that has no room for the reserve is halved.
pub fn connections(configured: usize, files: usize, listeners: usize) -> usize {
    let room = files - RESERVE.min(files / 2);
    let each = room / listeners.max(1);
    if each < configured {
        tracing::warn!(
            files,
            "each address of Flight SQL takes {each} connections, and not {configured} \
             (`limits.connections_max`): raise the hard limit of open files (`LimitNOFILE` of \
             systemd, `ulimit -Hn`)"
        );
    }
    each.min(configured).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_files_to_open() {
        for (configured, files, listeners, expected) in [
            (1_024, usize::MAX, 1, 1_024),
            (1_024, 1_048_576, 4, 1_024),
            (1_024, RESERVE + 1_024, 1, 1_024),
            (1_024, RESERVE + 1_024, 2, 512),
            (1_024, 1_024, 1, 512),
            (1_024, 256, 2, 64),
            (16, 1_024, 1, 16),
            (1_024, 1, 1, 1),
            (1_024, 0, 1, 1),
        ] {
            let taken = connections(configured, files, listeners);
            assert_eq!(taken, expected, "{files} files");
        }
    }

    #[test]
    fn the_soft_limit_is_raised_to_the_hard_one() {
        let hard = getrlimit(Resource::Nofile).maximum;
        assert_eq!(raise(), count(hard));
        assert_eq!(getrlimit(Resource::Nofile).current, hard);
    }
}
