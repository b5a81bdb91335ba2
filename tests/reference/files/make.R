# The files of test_files.py: Rscript make.R (R 4.2.2, haven 2.5.1)
library(haven)
d <- data.frame(id = 1:5)
d$x <- labelled(c(1.5, tagged_na("a"), 3, tagged_na("b"), NA), labels = c(refused = tagged_na("a")))
d$arm <- labelled(c(1, 2, 1, 2, 2), labels = c(placebo = 1, active = 2, high = 3), label = "Treatment")
d$pain <- labelled(c(0, 5, 10, 3, NA), labels = c(none = 0, worst = 10))
d$day <- as.Date("2020-01-01") + 0:4
d$s <- c("a", "b", "", "d", "e")
write_dta(d, "tagged.dta")

d <- data.frame(
  id = 1:4,
  arm = factor(c("placebo", "active", "placebo", NA), levels = c("placebo", "active")),
  sev = factor(c("mild", "severe", "mild", "moderate"), c("mild", "moderate", "severe"), ordered = TRUE),
  day = as.Date(c("2020-01-01", NA, "2020-02-01", "2020-03-01")),
  at = as.POSIXct(c("2020-01-01 10:00", "2020-01-01 11:00", NA, "2020-01-02 00:00"), tz = "UTC"),
  y = c(1.5, NA, 2, 3), ok = c(TRUE, NA, FALSE, TRUE), n = c(1L, NA, 3L, 4L),
  s = c("a", NA, "c", "d")
)
d$lab <- structure(c(1, 2, 1, 2), class = c("haven_labelled", "vctrs_vctr", "double"),
                   labels = c(no = 1, yes = 2))
saveRDS(d, "frame.rds")
saveRDS(list(1, 2), "list.rds")
