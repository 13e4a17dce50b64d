"""Where events come from and answers go: events, sources, sinks, clocks, codecs, logs, files and data sets.

`event` and `protocols` hold the nouns. Sources: `replay` (memory), `files`, `log_source`, `kafka`, and
`merge` over several partitions of any of them. Sinks: `replay`, `log`, `kafka`. `datasets` names what is
built in, `flights` and `synthetic` make it; `join` brings late labels to their forecasts.
"""
