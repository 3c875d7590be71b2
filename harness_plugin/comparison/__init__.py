"""Several judges on the same votes of people: what each is worth, and which differences are more than chance.

`named` says what the names that a user gives mean, `entries` gets the judgements of each judge, from a model or from
stored files, and `figures` makes the numbers of them. `panels`, `cascades` and `abstentions` say what judges are worth
together, or where they may abstain; `plan` puts it together. Knows no format of a report; `report` writes the numbers.
"""
