"""The version of the plugin.  Must import nothing."""

VERSION = "0.1"
