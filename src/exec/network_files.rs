//! The texts of `/etc/hosts` and `/etc/resolv.conf` in a step.
