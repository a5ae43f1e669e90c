//! A small file system of the test's own, which only root can make.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cluster::Cluster;

const BLOCK_BYTES: usize = 8_192;

/// A file system in memory, mounted as long as the value lives.
#[derive(Debug)]
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts one of so many megabytes that the server may write to. `None` where this process may not
    /// mount anything.
    ///
    /// # Panics
    /// Where there can be no folder to mount at.
    pub fn mount(cluster: &Cluster, name: &str, megabytes: u32) -> Option<Self> {
        // Where the server may go.
        let name = format!("allsource-e2e-{name}-{}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        fs::create_dir_all(&dir).expect("a folder to mount at");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={megabytes}m"), "tmpfs"]).arg(&dir);
        if !mount.output().is_ok_and(|output| output.status.success()) {
            let _ = fs::remove_dir(&dir);
            println!("skipped: this process may not mount a file system");
            return None;
        }
        let disk = Self(dir);
        let owner = fs::metadata(cluster.dir()).expect("the cluster's folder");
        chown(&disk.0, Some(owner.uid()), Some(owner.gid())).expect("the server's folder");
        Some(disk)
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Leaves no room. Gives the file that takes it.
    ///
    /// # Panics
    /// Where no file can be made.
    pub fn fill(&self) -> PathBuf {
        let path = self.0.join("filler");
        let mut file = File::create(&path).expect("a file");
        while file.write_all(&[0; BLOCK_BYTES]).is_ok() {}
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a server that could not be removed may still be in there.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
        let _ = fs::remove_dir(&self.0);
    }
}
