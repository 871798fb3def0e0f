"""The JSON documents of the reports, as dicts.

Sizes are bytes, addresses hex strings, None where something is unknown.
May use the model.  Must not import gdb.
"""


def _address(address):
    return None if address is None else "%#x" % address


def _place(frame):
    """File and line; the filename of a frame without them only says where the code is."""
    return (frame.filename, frame.lineno) if frame.has_line else (None, None)


def frame_document(frame):
    """One frame."""
    filename, lineno = _place(frame)
    return {"filename": filename, "lineno": lineno, "function": frame.function,
            "module": frame.module, "address": _address(frame.address),
            "inlined": frame.inlined}


def frames_document(traceback):
    """The frames of a traceback, oldest first."""
    return [frame_document(frame) for frame in traceback]


def _group_document(statistic, key_type, number, difference, sampled):
    frame = statistic.traceback[-1]
    located = key_type in ("lineno", "traceback")
    named = key_type not in ("size", "domain")
    filename, lineno = _place(frame)
    document = {
        "filename": filename if located or key_type == "filename" else None,
        "lineno": lineno if located else None,
        "name": frame.filename if located and not frame.has_line else None,
        "function": frame.function if named else None,
        "module": frame.module if named else None,
        "size": statistic.size,
        "count": statistic.count,
    }
    if difference:
        document["size_diff"] = statistic.size_diff
        document["count_diff"] = statistic.count_diff
    if sampled:
        document["size_error"] = round(statistic.size_error)
        document["count_error"] = round(statistic.count_error, 3)
        if difference:
            document["size_diff_error"] = round(statistic.size_diff_error)
            document["count_diff_error"] = round(statistic.count_diff_error, 3)
    if key_type == "traceback":
        document["traceback"] = frames_document(statistic.traceback)
    elif key_type == "size":
        document["block_size"] = number
    elif key_type == "domain":
        document["domain"] = number
    return document


def _statistics(groups, limit, difference, sampled):
    shown = groups[:] if limit is None else groups[:limit]
    return [_group_document(statistic, groups.key_type, number, difference, sampled)
            for statistic, number in zip(shown, groups.numbers(len(shown)))]


def _losses(snapshot):
    """The number of records that are missing, where some are."""
    return {"dropped": snapshot.dropped} if snapshot.dropped else {}


def sampling_keys(snapshot):
    """What is estimated, and how well, where not every block was recorded.

    size_error and count_error are standard errors, of the totals here and of its own
    figures in each statistic.
    """
    if not snapshot.sample_period:
        return {"min_size": snapshot.min_size} if snapshot.min_size else {}
    return {"sample_period": snapshot.sample_period, "min_size": snapshot.min_size,
            "recorded": snapshot.recorded, "size_error": round(snapshot.size_error),
            "count_error": round(snapshot.count_error, 3)}


def difference_keys(old, new):
    """Likewise of two snapshots; the error of a difference is at most what is said."""
    keys = sampling_keys(new)
    if old.sample_period or new.sample_period:
        keys["old_sample_period"] = old.sample_period
        keys["size_diff_error"] = round((old.size_error ** 2 + new.size_error ** 2) ** 0.5)
    return keys


def _report(command, snapshot, groups, limit, cumulative, sampled, old=None):
    statistics = _statistics(groups, limit, old is not None, sampled)
    marks = sampling_keys(snapshot) if old is None else difference_keys(old, snapshot)
    others, size, count = groups.rest(len(statistics))
    return {"command": command, "key_type": groups.key_type, "cumulative": bool(cumulative),
            "snapshot": snapshot.name, "statistics": statistics,
            "other": {"groups": others, "size": size, "count": count},
            "total_size": snapshot.size, "total_count": snapshot.blocks, **marks,
            **_losses(snapshot)}


def top_document(snapshot, key_type, limit, cumulative=False, by="size"):
    """What `tm top -json` prints."""
    return _report("top", snapshot, snapshot.groups(key_type, cumulative, by), limit,
                   cumulative, snapshot.sample_period)


def diff_document(old, new, key_type, limit, cumulative=False):
    """What `tm diff -json` prints."""
    document = _report("diff", new, new.differences(old, key_type, cumulative), limit,
                       cumulative, old.sample_period or new.sample_period, old)
    document["old"] = old.name
    return document


def traceback_document(address, block):
    """What `tm traceback -json` prints; block is None when the address is not traced."""
    return {"command": "traceback", "address": _address(address),
            "block": _address(block.address) if block else None,
            "size": block.size if block else None,
            "domain": block.domain if block else None,
            "frames": frames_document(block.traceback) if block else [],
            "total_nframe": block.traceback.total_nframe if block else None}


def snapshot_document(snapshot):
    """What `tm snapshot -json` prints."""
    return {"command": "snapshot", "name": snapshot.name, "blocks": snapshot.blocks,
            "size": snapshot.size, "tracebacks": snapshot.tracebacks,
            "traceback_limit": snapshot.traceback_limit, **sampling_keys(snapshot),
            **_losses(snapshot)}


def blocks_document(blocks):
    """What `tm traces -address -json` prints: an entry for each block."""
    return {"command": "traces",
            "traces": [{"domain": block.domain, "size": block.size, "count": 1,
                        "address": _address(block.address),
                        "frames": frames_document(block.traceback)} for block in blocks]}


def traces_document(snapshot, limit=None):
    """What `tm traces -json` prints; equal blocks are one entry."""
    sampled = bool(snapshot.sample_period)
    return {"command": "traces",
            "traces": [{"domain": trace.domain, "size": trace.size, "count": count,
                        "address": None, "frames": frames_document(trace.traceback),
                        **({"recorded": recorded} if sampled else {})}
                       for trace, count, recorded in snapshot.largest_rows(limit)],
            **sampling_keys(snapshot)}
