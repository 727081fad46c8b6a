"""Everything that kills, stops, cuts and fills, against runs that have to come through.

`plan` says what is done to whom, from a seed; `fleet` has the processes, `proxy` and `cluster` the
database; `drive` orders runs, follows them and decides what people are asked; `invariants` says
what must hold when it is over.
"""
