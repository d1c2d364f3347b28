# From psql's "@ label|events" and "Time: n ms" lines: events a second.
/^@ / {
    split(substr($0, 3), part, "|"); label = part[1]
    if (!(label in calls)) order[++labels] = label
    events[label] += part[2]; calls[label]++
}
/^Time: / && label { millis[label] += $2 }
END {
    printf "\n%-62s %8s %12s %10s\n", "ingest", "calls", "ms a call", "events/s"
    for (i = 1; i <= labels; i++) {
        l = order[i]
        printf "%-62s %8d %12.2f %10.0f\n", l, calls[l], millis[l] / calls[l], events[l] / millis[l] * 1000
    }
}
