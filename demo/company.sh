# Sourced by demo.sh: the days that the story is about, and the company's calendars on those days.
#
# MON … FRI   the working days of next week; MON2 the Monday after
# CHANGE      the Sunday, at least four weeks away, on which the clocks of Vienna change next

day() { TZ=UTC date -d "$1" +%F; }
MON=$(day "$((8 - $(TZ=UTC date +%u))) days")
TUE=$(day "$MON + 1 day") WED=$(day "$MON + 2 days") THU=$(day "$MON + 3 days") FRI=$(day "$MON + 4 days")
MON2=$(day "$MON + 7 days") START=$(day "$MON - 28 days")
CHANGE=$(seq 28 300 | sed "s/.*/$(day today) + & days 12:00/" | TZ=Europe/Vienna date -f - '+%F %z' \
    | awk 'before && $2 != before && !found { print $1; found = 1 } { before = $2 }')

# The seed of the fake Google, with today's days filled in.
company() {
    local utc='+%Y%m%dT%H%M%SZ'
    sed -e "s/@START@/$START/g; s/@MON@/$MON/g; s/@TUE@/$TUE/g; s/@WED@/$WED/g; s/@THU@/$THU/g; s/@FRI@/$FRI/g" \
        -e "s/@MON2@/$MON2/g" \
        -e "s/@MON_1530_UTC@/$(date -u -d "TZ=\"Europe/Vienna\" $MON 15:30" "$utc")/g" \
        -e "s/@MON2_1530_UTC@/$(date -u -d "TZ=\"Europe/Vienna\" $MON2 15:30" "$utc")/g" "$ROOT/demo/company.json"
}
