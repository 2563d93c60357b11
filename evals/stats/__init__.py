"""Statistics behind scores, the judge's passport and the gate. Formulas and limits: docs/statistics.md.

| question | module |
|---|---|
| how sure is a mean, a ratio, a total, a difference? | `intervals` (clusters resampled) |
| is the candidate not worse, or better? | `noninferiority`; `binary` for paired right/wrong items |
| how many items would be needed? | `power` |
| which of many slices are really worse? | `multiplicity` |
| how well do raters agree; may a judge replace one? | `agreement`, `annotators` |
| what does a judge prefer; how biased is it? | `preference`, `length_control`, `bradley_terry` |
| what is the true rate behind an imperfect judge? | `correction` |
| may judging stop now? | `sequential` |
"""
