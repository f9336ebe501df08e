"""The chunk files: an append-only log of commits, from which everything else can be rebuilt.

`files` is the only module that touches chunk files; `segment` and `table` say what their bytes
mean; `writer` appends, `reader` reads, `chain` puts the commits in order, `lock` says who commits
now.
"""
