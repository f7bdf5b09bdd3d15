# Naive Bayes with add-one smoothing. Every fifth review is held out for the test.
BEGIN { FS = "," }

FNR > 1 {
    label = $1
    text = tolower(substr($0, length(label) + 2))
    gsub(/[^a-z ]/, "", text)
    if (FNR % 5 == 0) {
        held_label[++held] = label
        held_text[held] = text
        next
    }
    reviews[label]++
    all++
    count = split(text, words, " ")
    for (i = 1; i <= count; i++) {
        seen[label, words[i]]++
        total[label]++
        if (!(words[i] in known)) {
            known[words[i]]
            size++
        }
    }
}

function score(label, text,    words, count, i, sum) {
    sum = log(reviews[label] / all)
    count = split(text, words, " ")
    for (i = 1; i <= count; i++)
        sum += log((seen[label, words[i]] + 1) / (total[label] + size))
    return sum
}

END {
    for (i = 1; i <= held; i++) {
        guess = score("positive", held_text[i]) > score("negative", held_text[i]) ? "positive" : "negative"
        right += guess == held_label[i]
    }
    printf "reviews=%d words=%d held_out=%d accuracy=%.3f\n", all, size, held, right / held
}
