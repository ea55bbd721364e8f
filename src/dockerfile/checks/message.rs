//! The messages of the rules, in BuildKit's words.

/// StageNameCasing
pub fn stage_name_casing(stage: &str) -> String {
    format!("Stage name '{stage}' should be lowercase")
}

/// FromAsCasing
pub fn from_as_casing(from: &str, as_keyword: &str) -> String {
    format!("'{as_keyword}' and '{from}' keywords' casing do not match")
}

/// NoEmptyContinuation
pub fn no_empty_continuation() -> String {
    "Empty continuation line".to_owned()
}

/// ConsistentInstructionCasing; `casing` is `lowercase` or `uppercase`.
pub fn consistent_instruction_casing(keyword: &str, casing: &str) -> String {
    format!("Command '{keyword}' should match the case of the command majority ({casing})")
}

/// DuplicateStageName
pub fn duplicate_stage_name(stage: &str) -> String {
    format!("Duplicate stage name \"{stage}\", stage names should be unique")
}

/// ReservedStageName
pub fn reserved_stage_name(stage: &str) -> String {
    format!("Stage name should not use the same name as reserved stage \"{stage}\"")
}

/// JSONArgsRecommended
pub fn json_args_recommended(keyword: &str) -> String {
    format!("JSON arguments recommended for {keyword} to prevent unintended behavior related to OS signals")
}

/// MaintainerDeprecated
pub fn maintainer_deprecated() -> String {
    "Maintainer instruction is deprecated in favor of using label".to_owned()
}

/// UndefinedArgInFrom
pub fn undefined_arg_in_from(argument: &str, near: Option<&str>) -> String {
    let near = near.map(|near| format!(" (did you mean {near}?)")).unwrap_or_default();
    format!("FROM argument '{argument}' is not declared{near}")
}

/// WorkdirRelativePath
pub fn workdir_relative_path(path: &str) -> String {
    format!("Relative workdir \"{path}\" can have unexpected results if the base image changes")
}

/// UndefinedVar
pub fn undefined_var(name: &str, near: Option<&str>) -> String {
    let near = near.map(|near| format!(" (did you mean ${near}?)")).unwrap_or_default();
    format!("Usage of undefined variable '${name}'{near}")
}

/// MultipleInstructionsDisallowed
pub fn multiple_instructions_disallowed(keyword: &str) -> String {
    format!(
        "Multiple {keyword} instructions should not be used in the same stage because only the last one will be used"
    )
}

/// LegacyKeyValueFormat
pub fn legacy_key_value_format(keyword: &str) -> String {
    format!("\"{keyword} key=value\" should be used instead of legacy \"{keyword} key value\" format")
}

/// InvalidBaseImagePlatform
pub fn invalid_base_image_platform(image: &str, actual: &str, expected: &str) -> String {
    format!(
        "Base image {image} was pulled with platform \"{actual}\", expected \"{expected}\" for current build"
    )
}

/// RedundantTargetPlatform; the flag's value as written.
pub fn redundant_target_platform(platform: &str) -> String {
    format!("Setting platform to predefined {platform} in FROM is redundant as this is the default behavior")
}

/// SecretsUsedInArgOrEnv
pub fn secrets_used_in_arg_or_env(instruction: &str, name: &str) -> String {
    format!("Do not use ARG or ENV instructions for sensitive data ({instruction} \"{name}\")")
}

/// InvalidDefaultArgInFrom; the image as written.
pub fn invalid_default_arg_in_from(image: &str) -> String {
    format!("Default value for ARG {image} results in empty or invalid base image name")
}

/// FromPlatformFlagConstDisallowed
pub fn from_platform_flag_const_disallowed(platform: &str) -> String {
    format!("FROM --platform flag should not use constant value \"{platform}\"")
}

/// CopyIgnoredFile; `verb` is `Copy` or `Add`.
pub fn copy_ignored_file(verb: &str, path: &str) -> String {
    format!("Attempting to {verb} file \"{path}\" that is excluded by .dockerignore")
}

/// InvalidDefinitionDescription; the instruction is `FROM` or `ARG`.
pub fn invalid_definition_description(instruction: &str, name: &str) -> String {
    format!("Comment for {instruction} should follow the format: `# {name} <description>`")
}

/// ExposeProtoCasing
pub fn expose_proto_casing(port: &str) -> String {
    format!("Defined protocol '{port}' in EXPOSE instruction should be lowercase")
}

/// ExposeInvalidFormat
pub fn expose_invalid_format(port: &str) -> String {
    format!("EXPOSE instruction should not define an IP address or host-port mapping, found '{port}'")
}
