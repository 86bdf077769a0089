//! What the mount promises of names, reading and writing, and the tests that hold it to that:
//! each claim of the contract in short, with its tests by name. A test that is renamed or removed
//! takes its name out of here, or this fails.

use std::collections::HashSet;
use std::path::Path;

/// A claim, and the names of the tests that prove it.
type Claim = (&'static str, &'static [&'static str]);

#[rustfmt::skip]
const NAMES: &[Claim] = &[
    ("the directory is searched and not listed, by nobody", &["nothing_lists_and_nothing_deletes", "root_is_not_special_for_listing"]),
    ("each kind of path has its permissions", &["each_kind_of_path_has_its_permissions", "modes_and_owners_are_shown_as_they_were_asked_for"]),
    ("Name is the current value", &["every_tool_that_takes_a_path_sees_the_value", "every_open_sees_the_newest_version_and_keeps_it"]),
    ("Name@VERSION is that version's value, and written by nobody", &["a_version_is_read_under_its_own_name_and_written_by_nobody", "a_version_is_read_and_never_written", "each_version_is_read_by_its_own_name"]),
    ("NAME.pem and NAME.pfx are a certificate's secret in that form", &["openssl_opens_the_pfx_and_finds_the_key_of_the_pem", "a_certificate_is_read_in_either_form_for_one_request_each"]),
    ("no other secret has those, and nobody writes them", &["a_certificates_files_are_read_only_and_no_other_secret_has_them", "a_secret_that_is_no_certificates_has_no_forms"]),
    (".storage/ has a storage account's keys, in directories that can be listed", &["keys_and_connection_string_are_files_in_directories_that_can_be_listed"]),
    (".keyvaultfs/ says what the mount is doing, never a value", &["the_directory_is_listed_and_its_files_are_read_with_no_request", "the_status_says_who_reads_and_what_failed_and_never_a_value", "promtool_finds_nothing_wrong_with_the_metrics"]),
    ("names are compared without case", &["names_are_compared_without_case", "all_spellings_of_a_name_are_one_inode_and_it_never_changes"]),
    ("a name that cannot exist is ENOENT, creating it EINVAL or ENAMETOOLONG, with no request", &["a_name_that_no_secret_can_have_costs_no_request", "names_that_cannot_exist_cost_no_request"]),
    ("the vault is never asked to list or delete", &["nothing_lists_and_nothing_deletes", "a_secret_is_read_with_exactly_one_request_and_no_other_is_made"]),
    ("rm, mv, mkdir, ln have a clear errno and cost lookups alone", &["what_no_secret_can_do_has_its_errno_and_costs_no_request_but_lookups"]),
    ("stat shows the true size and the version's times", &["a_stat_costs_one_request_and_tells_the_truth", "times_are_the_versions"]),
    ("the birth time is when the version was created", &["stat_prints_when_the_version_was_created_and_costs_one_request", "statx_and_stat_say_the_same_but_for_the_birth_time", "a_killed_worker_takes_no_statx_with_it"]),
    ("they change with the version and only then", &["attributes_change_with_the_version_and_only_then"]),
    ("getfattr shows what the vault says of the version", &["attributes_of_a_file_say_what_the_vault_says_of_its_version", "all_attributes_of_a_file_cost_the_one_request_of_its_first_lookup"]),
    ("bytes are exact in both directions", &["bytes_are_exact", "written_bytes_are_exact", "any_bytes_come_back_as_they_were_set"]),
    ("base64 and hex are shown decoded, what is no text is stored in base64", &["bytes_that_are_no_text_are_stored_in_base64_and_the_tag_goes_when_text_replaces_them", "base64_and_hex_are_shown_decoded_and_other_tags_are_not"]),
    ("as the az CLI does it", &["what_the_mount_stored_az_downloads_as_it_was", "what_az_stored_in_base64_or_hex_the_mount_shows_as_it_was", "base64_is_laid_out_as_az_does_it"]),
];

#[rustfmt::skip]
const READING: &[Claim] = &[
    ("every open pulls what it reads", &["every_open_sees_the_newest_version_and_keeps_it", "every_open_pulls_unless_the_lookup_just_before_did"]),
    ("a fetch under way may serve it, but none from before a set", &["readers_of_one_name_share_a_request", "a_hundred_readers_of_one_name_cost_at_most_three_requests", "an_open_after_a_set_does_not_join_a_pull_begun_before_it"]),
    ("cat and stat cost one request each", &["cat_costs_exactly_one_vault_request_and_it_carries_the_token", "cat_costs_one_request_and_so_does_stat", "a_stat_costs_one_request_and_tells_the_truth", "a_large_file_of_many_reads_is_one_request"]),
    ("a name that is not in the vault is ENOENT", &["a_missing_secret_costs_one_request_and_says_so"]),
    ("a lookup waits a second at most, and what follows tells the truth", &["a_slow_lookup_ends_in_the_truth", "lookup_waits_one_second_and_the_open_after_it_tells_the_truth", "a_provisional_entry_that_proves_missing_is_looked_up_again_at_no_cost"]),
    ("who waits can be interrupted", &["who_waits_for_a_hung_vault_can_be_interrupted", "signals_meant_to_end_a_program_end_it_at_once"]),
    ("a failed lookup that is sent again gets the same answer", &["a_failed_lookup_that_the_kernel_repeats_gets_the_same_answer"]),
    ("sizes are exact, for tar, rsync, source, git, sendfile", &["sizes_are_exact_for_what_trusts_them", "tools_that_read_see_the_value"]),
    ("what an open file reads never changes, at any offset", &["every_open_sees_the_newest_version_and_keeps_it", "a_handle_is_a_snapshot", "open_files_and_running_requests_outlive_a_hand_over"]),
    ("mmap and sendfile work", &["every_tool_that_takes_a_path_sees_the_value", "pages_of_a_mapped_file_are_dropped_when_it_is_closed"]),
    ("what cannot be shown is there, cannot be read and can be overwritten", &["a_disabled_or_undecodable_secret_is_there_cannot_be_read_and_can_be_overwritten", "a_disabled_secret_is_there_cannot_be_read_and_can_be_overwritten"]),
    ("values do not stay in the page cache, nor those of temporary files", &["read_leaves_no_page_at_all", "pages_of_a_mapped_file_are_dropped_when_it_is_closed", "pages_of_a_sent_file_are_dropped_when_it_is_closed", "pages_of_a_temporary_file_are_dropped_when_it_is_closed"]),
    ("the kernel remembers the directory and nothing of a file, and a reader's close waits for nobody", &["the_kernel_remembers_the_directory_and_closes_a_reader_alone"]),
    ("--cache-ttl lets a value serve other opens, a set replaces it at once", &["a_value_serves_other_opens_for_its_ttl_and_a_set_through_the_mount_replaces_it_at_once", "a_value_serves_later_opens_for_its_ttl", "a_set_through_the_mount_replaces_what_is_kept_at_once"]),
    ("that a name is not there is remembered 5 s at most", &["a_name_that_is_not_there_is_asked_for_again_after_five_seconds"]),
    ("--stale-if-error serves on 408, 429, 5xx and silence, never on 401, 403, 404", &["a_stale_value_serves_when_the_vault_fails_and_never_against_its_word", "a_stale_value_serves_while_the_vault_is_silent_and_never_against_its_word", "a_stale_value_has_its_time_too"]),
    ("one slow or hung secret delays its own readers alone", &["a_hung_secret_delays_nobody_else", "readers_hung_on_one_name_slow_no_other_down", "a_hung_open_does_not_slow_others_down"]),
    ("lookups run in parallel", &["a_hundred_names_are_read_within_three_delays"]),
    ("creating, removing and renaming answer from memory", &["creating_a_file_asks_nothing_and_waits_for_nothing", "creating_renaming_and_removing_a_temporary_file_wait_for_no_vault"]),
];

#[rustfmt::skip]
const WRITING: &[Claim] = &[
    ("what is written is set once, at close or fsync", &["each_way_to_write_makes_exactly_one_version_with_exactly_those_bytes", "a_close_sets_once_and_a_second_close_of_a_duplicate_sets_nothing", "tools_that_write_make_one_version"]),
    ("close says why it failed", &["close_says_why_a_set_failed", "where_the_set_fails_at_close_every_tool_that_looks_says_so_and_nothing_is_set"]),
    ("a close by who did not open the file is not the end", &["several_writers_of_one_open_file_make_one_version", "each_redirection_makes_one_version_and_that_one_whole", "a_flush_is_not_the_end_while_the_opener_holds_the_file"]),
    ("emptied or created and not written sets nothing", &["writing_nothing_makes_no_version", "nothing_written_sets_nothing"]),
    ("a failed pipeline wipes no secret", &["a_producer_that_fails_before_its_first_byte_sets_nothing"]),
    ("a file not yet set exists here alone and while it is open", &["a_file_created_and_not_yet_set_exists_here_alone_and_only_while_it_is_open", "a_file_that_is_being_created_is_there_for_others_too"]),
    ("O_TRUNC is told from truncate(2)", &["opening_with_o_trunc_is_told_from_truncating_a_path"]),
    ("appending and writing in place start from the current value", &["appending_and_writing_in_place_start_from_the_current_value", "appending_and_overwriting_in_place_start_from_the_current_value"]),
    ("a writer killed by a signal sets nothing", &["a_writer_that_was_killed_sets_nothing", "a_writer_killed_by_a_signal_sets_nothing_also_if_a_duplicate_survives"]),
    ("refused at open: a read-only mount", &["a_read_only_mount_refuses_without_a_request", "a_read_only_mount_takes_no_write_from_anybody"]),
    ("refused at open: a certificate's secret", &["a_certificates_secret_cannot_be_opened_for_writing", "a_certificates_secret_is_refused_at_open"]),
    ("refused at open: a name lately denied", &["a_name_lately_denied_is_refused_at_open_and_costs_no_question", "without_set_the_first_write_fails_and_then_the_open"]),
    ("refused at the first write: a policy without set", &["without_set_every_write_fails_and_says_permission_denied", "without_set_every_tool_that_writes_says_so_and_nothing_is_set"]),
    ("the question stores nothing, and only a clear refusal stops a write", &["the_question_before_the_first_write_stores_nothing_and_is_remembered", "asking_whether_a_name_may_be_set_never_sets_it", "only_a_clear_refusal_stops_a_set_beforehand"]),
    ("a refusal is remembered 10 s, anything else 10 min", &["a_refused_set_is_asked_again_after_10_s_and_an_allowed_one_after_10_min"]),
    ("doctor asks the same way", &["set_is_not_granted", "set_is_not_granted_nor_wanted"]),
    ("--no-set-check turns it off", &["without_the_question_the_error_comes_at_close"]),
    ("it is never asked in CREATE", &["creating_a_file_asks_nothing_and_waits_for_nothing"]),
    ("a failed set leaves the bytes for another try", &["a_failed_set_leaves_the_bytes_for_the_next_try", "a_failed_set_leaves_the_bytes_for_another_try"]),
    ("overwriting keeps content type and tags", &["overwriting_keeps_content_type_and_tags", "overwriting_what_cannot_be_shown_keeps_its_content_type_and_tags"]),
    ("except file-encoding, which follows from the value", &["bytes_that_are_no_text_are_stored_in_base64_and_the_tag_goes_when_text_replaces_them", "the_encoding_tag_follows_from_the_value_alone"]),
    ("more tags than a vault takes are refused at the first write", &["a_tag_too_many_is_refused_at_the_first_write_and_never_sent"]),
    ("with set alone reads fail and writes work", &["with_set_alone_writing_works_and_reading_is_denied", "without_get_a_name_is_a_drop_box", "without_get_what_reads_fails_and_what_writes_works"]),
    ("that get is refused is remembered 10 s for the mount", &["that_get_is_refused_is_remembered_10_s_for_the_mount", "a_refused_get_is_the_mounts_until_some_get_works"]),
    ("who looks up more than 16 names in a second is searching for a free one", &["a_search_for_a_free_name_ends_in_a_drop_box", "a_search_for_a_free_name_in_a_drop_box_ends", "more_than_16_names_in_a_second_are_a_search"]),
    ("a close that returned 0 has its bytes in the vault", &["what_a_close_said_holds_though_workers_are_killed", "what_a_close_said_holds_though_programs_are_replaced", "a_set_on_its_way_is_finished_when_the_mount_is_told_to_end"]),
    ("no close makes two versions", &["a_set_whose_answer_was_lost_is_not_made_twice", "whatever_fails_no_value_is_wrong_and_no_version_is_lost_or_made_twice"]),
    ("a set that never arrived is tried again", &["a_set_that_never_arrived_is_tried_again", "a_set_that_never_arrived_is_repeated_until_it_is_done"]),
    ("over 25,600 bytes as stored: EFBIG at write, and nothing of it is set", &["more_than_a_vault_takes_is_refused_at_the_write", "what_was_written_before_a_write_that_did_not_fit_is_not_set", "a_value_that_outgrows_the_vault_by_its_encoding_fails_the_close"]),
    ("editors' files live in memory, known by their names", &["names_that_editors_make_beside_a_secret_live_in_memory_and_never_reach_the_vault", "editors_names_are_known_by_the_secret_they_stand_beside", "editors_files_never_reach_the_vault"]),
    ("and what mkstemp makes, known by how", &["mkstemp_is_known_by_its_flags_and_mode"]),
    ("chmod, chown, utimes work on them", &["modes_owners_and_times_of_a_temporary_file_are_as_they_were_set"]),
    ("renaming one onto a secret sets it, and reports the error", &["renaming_a_temporary_file_onto_a_secret_sets_it_once", "a_rename_onto_a_secret_reports_why_the_set_failed_and_loses_nothing", "a_rename_that_cannot_be_set_reports_it_and_keeps_the_file"]),
    ("within --timeout", &["a_rename_takes_no_longer_than_the_time_limit"]),
    ("editors and atomic writers make one version and no stray secret", &["tools_that_edit_make_one_version", "no_temporary_file_of_an_editor_becomes_a_secret_when_its_time_is_over"]),
    ("vim writes its swap file to no disk", &["vim_keeps_its_swap_file_beside_the_secret_and_off_every_disk"]),
    ("a new program waits for them", &["a_file_that_is_being_replaced_outlives_a_new_program"]),
    ("at most 64 of 64 KiB", &["there_are_at_most_64_temporary_files_of_64_kib", "there_are_at_most_64_of_64_kib"]),
    ("one made as mkstemp does and left is set after 5 s", &["a_file_made_like_a_temporary_one_and_left_is_set_after_5_s", "a_file_left_behind_outlives_a_passing_fault_of_the_vault"]),
    ("others are dropped after 60 s", &["other_files_left_are_dropped_after_60_s_and_open_ones_are_not"]),
    ("or at unmount, with a warning", &["at_unmount_a_file_made_as_mkstemp_does_is_set_and_others_are_dropped_with_a_warning", "what_waits_to_be_set_is_set_when_the_mount_ends"]),
    ("utimes changes nothing, chmod and chown succeed if they change nothing", &["changes_that_change_nothing_succeed_and_others_are_refused", "chmod_and_chown_succeed_if_they_change_nothing"]),
    ("other changes are EPERM", &["what_no_secret_can_do_has_its_errno_and_costs_no_request_but_lookups", "tools_that_remove_what_they_replace_are_refused_and_nothing_is_lost"]),
    ("attributes that only the kernel wants are ENODATA, with no request", &["attributes_that_only_the_kernel_wants_cost_no_request", "attributes_that_are_not_the_vaults_cost_no_request"]),
];

/// The names of the test functions in all sources beneath `directory`.
fn collect(directory: &Path, names: &mut HashSet<String>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, names);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            names.extend(tests_of(&std::fs::read_to_string(&path).unwrap()));
        }
    }
}

/// The functions that an attribute makes tests.
fn tests_of(source: &str) -> Vec<String> {
    let (mut found, mut is_test) = (Vec::new(), false);
    for line in source.lines().map(str::trim) {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            is_test = true;
        } else if !line.starts_with("#[") && !line.starts_with("//") {
            let function = line.trim_start_matches("async ").strip_prefix("fn ");
            let name = function.and_then(|rest| rest.split('(').next());
            found.extend(name.filter(|_| is_test).map(str::to_owned));
            is_test = false;
        }
    }
    found
}

#[test]
fn each_claim_of_the_contract_has_the_tests_that_are_named_here() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut names = HashSet::new();
    for directory in ["src", "tests"] {
        collect(&root.join(directory), &mut names);
    }
    let claims = [NAMES, READING, WRITING].concat();
    let missing: Vec<_> = claims
        .iter()
        .flat_map(|(claim, tests)| tests.iter().map(move |test| (claim, test)))
        .filter(|(_, test)| !names.contains(**test))
        .collect();
    assert!(missing.is_empty(), "no such test: {missing:#?}");
    let untested: Vec<_> = claims
        .iter()
        .filter(|(_, tests)| tests.is_empty())
        .collect();
    assert!(untested.is_empty(), "{untested:?}");
}

#[test]
fn a_function_that_no_attribute_makes_a_test_is_none() {
    let source =
        "#[test]\n// why\n#[cfg(x)]\nfn a() {}\nfn b() {}\n#[tokio::test(x)]\nasync fn c() {}";
    assert_eq!(tests_of(source), ["a", "c"]);
}
