# dbplyr over DBI: what it makes of a pipeline is SQL that the server reads.

dplyr_hub <- jdbc()
dbplyr_edition.HubConnection <- function(con) 2L
registerS3method("dbplyr_edition", "HubConnection", dbplyr_edition.HubConnection, asNamespace("dbplyr"))
stays <- dplyr::tbl(dplyr_hub, dbplyr::in_schema("snds", "t_mco_b"))

test("dplyr: filters and counts", {
  found <- stays |>
    dplyr::filter(dgn_pal %like% "I%", ent_dat > as.Date("2000-01-01")) |>
    dplyr::count(dgn_pal) |>
    dplyr::arrange(dplyr::desc(n), dgn_pal) |>
    dplyr::collect()
  expected <- dbGetQuery(hub, "SELECT dgn_pal, count(*) AS n FROM snds.t_mco_b WHERE dgn_pal LIKE 'I%' GROUP BY 1 ORDER BY 2 DESC, 1")
  equal(as.data.frame(found), expected)
})

test("dplyr: joins, computes and summarises", {
  persons <- dplyr::tbl(dplyr_hub, dbplyr::in_schema("snds", "ir_ben_r"))
  found <- stays |>
    dplyr::inner_join(persons, by = "ben_idt") |>
    dplyr::mutate(chapter = substr(dgn_pal, 1L, 1L), old = ifelse(ben_nai_ann < 1950L, 1L, 0L)) |>
    dplyr::group_by(chapter) |>
    dplyr::summarise(n = dplyr::n(), born = mean(ben_nai_ann, na.rm = TRUE), old = sum(old, na.rm = TRUE)) |>
    dplyr::arrange(chapter) |>
    dplyr::collect()
  expected <- dbGetQuery(hub, "SELECT substr(dgn_pal, 1, 1) AS chapter, count(*) AS n, avg(ben_nai_ann) AS born,
    sum(CASE WHEN ben_nai_ann < 1950 THEN 1 ELSE 0 END) AS old FROM snds.t_mco_b JOIN snds.ir_ben_r USING (ben_idt) GROUP BY 1 ORDER BY 1")
  equal(as.data.frame(found), expected)
})

test("dplyr: takes windows and distinct rows", {
  found <- stays |>
    dplyr::group_by(ben_idt) |>
    dbplyr::window_order(ent_dat, sor_dat) |>
    dplyr::mutate(place = dplyr::row_number(), before = dplyr::lag(ent_dat)) |>
    dplyr::ungroup() |>
    dplyr::filter(place == 2L) |>
    dplyr::summarise(n = dplyr::n(), first = min(before, na.rm = TRUE)) |>
    dplyr::collect()
  expected <- dbGetQuery(hub, "SELECT count(*) AS n, min(before) AS first FROM (SELECT row_number() OVER w AS place, lag(ent_dat) OVER w AS before
    FROM snds.t_mco_b WINDOW w AS (PARTITION BY ben_idt ORDER BY ent_dat, sor_dat)) WHERE place = 2")
  equal(as.data.frame(found), expected)
})

dbDisconnect(dplyr_hub)
