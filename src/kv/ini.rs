//! Options from an ini file of EloqStore: sections `[run]` and `[permanent]`, sizes with units.

use super::options::{Options, flag, invalid, number};
use crate::status::Result;
use std::path::{Path, PathBuf};

impl Options {
    /// From EloqStore's ini text. Names that this engine has no use for are accepted and ignored, unknown
    /// sections and malformed lines are not; `base` is what relative store paths are relative to.
    pub fn from_ini(text: &str, base: &Path) -> Result<Options> {
        let mut options = Options::default();
        let (mut section, mut run, mut permanent) = ("", false, false);
        // EloqStore's own default for a file that does not say.
        let mut file_size = 8 << 20;
        for line in text.lines().map(str::trim) {
            if line.is_empty() || line.starts_with([';', '#']) {
                continue;
            }
            if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                section = name.trim();
                match section {
                    "run" => run = true,
                    "permanent" => permanent = true,
                    _ => {
                        return Err(invalid(format!(
                            "section `[{section}]` is neither [run] nor [permanent]"
                        )));
                    }
                }
                continue;
            }
            let (name, value) = line.split_once('=').ok_or_else(|| invalid(format!("`{line}`: no `=`")))?;
            let (name, value) = (name.trim(), value.trim());
            match section {
                "run" => options.set_run(name, value, base)?,
                "permanent" if name == "data_file_size" => file_size = size(name, value)?,
                "permanent" => options.set_permanent(name, value, base)?,
                _ => return Err(invalid(format!("`{name}` stands before any section"))),
            }
        }
        if !run || !permanent {
            return Err(invalid("both sections, [run] and [permanent], are required".into()));
        }
        options.set_file_size(file_size)?;
        options.check()?;
        Ok(options.over_objects())
    }

    fn set_run(&mut self, name: &str, value: &str, base: &Path) -> Result<()> {
        match name {
            "num_threads" => self.threads = number(name, value)?,
            "data_page_restart_interval" => self.data_restart_interval = number(name, value)?,
            "index_page_restart_interval" => self.index_restart_interval = number(name, value)?,
            "file_amplify_factor" => self.file_amplify_factor = number(name, value)?,
            "segment_file_amplify_factor" => self.segment_amplify_factor = number(name, value)?,
            "num_retained_archives" => self.retained_archives = number(name, value)?,
            "manifest_limit" => self.manifest_limit = size(name, value)?,
            _ => {
                self.cloud.set(name, value, base)?;
            }
        }
        Ok(())
    }

    fn set_permanent(&mut self, name: &str, value: &str, base: &Path) -> Result<()> {
        match name {
            "store_path" => (self.store_paths, self.weights) = paths(value, base)?,
            "data_page_size" => self.page_size = memory(name, value)?,
            "overflow_pointers" => self.overflow_pointers = number(name, value)?,
            "data_append_mode" => self.append = flag(name, value)?,
            "segment_size" => self.segment_size = memory(name, value)?,
            "segments_per_file_shift" => self.segments_per_file_shift = number(name, value)?,
            _ => {
                self.cloud.set(name, value, base)?;
            }
        }
        Ok(())
    }
}

/// `a,b:1,3`: directories, then their weights after the last colon, if that is followed by numbers only.
fn paths(value: &str, base: &Path) -> Result<(Vec<PathBuf>, Vec<u32>)> {
    let numbers = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || byte == b',' || byte == b' ');
    let (paths, weights) = match value.rsplit_once(':') {
        Some((paths, weights)) if !weights.is_empty() && numbers(weights) => (paths, Some(weights)),
        _ => (value, None),
    };
    let paths = paths.split(',').map(str::trim).filter(|path| !path.is_empty()).map(|path| base.join(path));
    let weights = weights.into_iter().flat_map(|weights| weights.split(','));
    let weights = weights.map(|weight| number("store_path", weight.trim())).collect::<Result<_>>()?;
    Ok((paths.collect(), weights))
}

/// `400MB`: a number and B, KB, MB, GB or TB, in powers of 1024.
pub(super) fn size(name: &str, value: &str) -> Result<u64> {
    let digits = value.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = value.split_at(digits);
    let shift = match unit.trim() {
        "" | "B" => 0,
        "KB" => 10,
        "MB" => 20,
        "GB" => 30,
        "TB" => 40,
        _ => return Err(invalid(format!("{name}={value}: the unit must be KB, MB, GB or TB"))),
    };
    let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift));
    bytes.ok_or_else(|| invalid(format!("{name}={value}: not a size")))
}

/// A size that fits memory.
pub(super) fn memory(name: &str, value: &str) -> Result<usize> {
    usize::try_from(size(name, value)?).map_err(|_| invalid(format!("{name}={value}: too large")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ini_file_is_read() {
        let text = "; c\n[run]\nnum_threads = 2\nmanifest_limit=1MB\nbuffer_pool_size=128MB\n\
            [permanent]\nstore_path = /a , b:1, 3\ndata_page_size=8KB\ndata_file_size=1000KB\ndata_append_mode=true\n";
        let options = Options::from_ini(text, Path::new("/x")).unwrap();
        assert_eq!(options.store_paths, [Path::new("/a"), Path::new("/x/b")]);
        assert_eq!((options.weights.as_slice(), options.threads, options.append), (&[1, 3][..], 2, true));
        assert_eq!(
            (options.page_size, options.pages_per_file_shift, options.manifest_limit),
            (8192, 6, 1 << 20)
        );
        let plain = Options::from_ini("[run]\n[permanent]\nstore_path=c:d\n", Path::new("/x")).unwrap();
        assert_eq!((plain.pages_per_file_shift, plain.store_paths), (11, vec![PathBuf::from("/x/c:d")]));
    }

    #[test]
    fn wrong_ini_files_are_refused() {
        for text in [
            "",
            "[run]\n",
            "[permanent]\n",
            "a=1\n[run]\n[permanent]",
            "[run]\n[permanent]\n[other]\n",
            "[run]\n[permanent]\ndata_page_size=4PB",
            "[run]\n[permanent]\ndata_page_size=KB",
            "[run]\n[permanent]\nsegment_size=99999999999TB",
            "[run]\n[permanent]\ndata_file_size=1KB",
            "[run]\nx\n[permanent]",
            "[run]\n[permanent]\nstore_path=a,b:1",
        ] {
            assert!(Options::from_ini(text, Path::new("")).is_err(), "{text:?}");
        }
    }
}
