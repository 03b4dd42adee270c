//! Contents of a container's `/etc/resolv.conf`, `/etc/hosts` and `/etc/hostname`. Pure.

pub mod hosts;
pub mod resolv;
