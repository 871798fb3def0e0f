"""Fetches a Debian source package without touching the machine's apt configuration.

May use apt-get and dpkg-source; keeps everything below build/tests/source.
"""
import shutil
import subprocess

from gdbsession import ROOT

SOURCES = ROOT / "build" / "tests" / "source"


def run(command, **options):
    done = subprocess.run([str(each) for each in command], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, **options)
    if done.returncode:
        raise AssertionError(f"{' '.join(map(str, command))}\n{done.stdout[-3000:]}")
    return done.stdout


def mirror():
    """Where this machine gets Debian's packages from, and the release it has."""
    targets = run(["apt-get", "indextargets", "--format",
                   "$(ORIGIN)|$(LABEL)|$(REPO_URI)|$(RELEASE)", "Created-By: Packages"])
    for line in targets.splitlines():
        origin, label, uri, release = line.split("|")
        if origin == "Debian" and label == "Debian" and "-" not in release:
            return uri, release
    raise AssertionError(f"no Debian mirror among apt's sources:\n{targets}")


def unpack(package):
    """The folder of the package's unpacked source."""
    folder = SOURCES / package
    if (folder / "unpacked").is_dir():
        return folder / "unpacked"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "lists" / "partial").mkdir(parents=True)
    uri, release = mirror()
    (folder / "sources.list").write_text(
        "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] "
        f"{uri} {release} main\n")
    apt = ["apt-get", "-qq", "-o", f"Dir::Etc::sourcelist={folder}/sources.list",
           "-o", "Dir::Etc::sourceparts=-", "-o", f"Dir::State::lists={folder}/lists",
           "-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache=",
           "-o", "APT::Sandbox::User=root", "-o", "Acquire::Retries=3",
           "-o", "Acquire::http::Timeout=20"]
    run([*apt, "update"])
    run([*apt, "source", "--download-only", package], cwd=folder)
    description = next(folder.glob("*.dsc"))
    run(["dpkg-source", "--no-check", "-x", description.name, "unpacked"], cwd=folder)
    shutil.rmtree(folder / "lists")
    return folder / "unpacked"


def why_not(package):
    """Why the source of a package cannot be had here, or None: it is there, or was fetched."""
    try:
        unpack(package)
    except AssertionError as problem:
        return f"Debian's source package {package}: {str(problem).splitlines()[-1]}"
    return None


def memcached():
    """memcached, built with -g -O2 as its own configure script does by default."""
    folder = unpack("memcached")
    program = folder / "memcached"
    if not program.exists():
        run(["./configure", "--disable-docs", "--disable-coverage", "CFLAGS=-g -O2"], cwd=folder)
        run(["make", "-j2", "memcached"], cwd=folder)
    return program


def mimalloc():
    """mimalloc as one object that defines malloc, for linking in statically."""
    folder = unpack("mimalloc")
    compiled = folder / "mimalloc.o"
    if not compiled.exists():
        run(["gcc", "-O2", "-g", "-DMI_MALLOC_OVERRIDE", "-DNDEBUG", "-ftls-model=initial-exec",
             "-fno-builtin-malloc", "-I", "include", "-c", "-o", compiled, "src/static.c"],
            cwd=folder)
    return compiled
