//! What pfctl looks at when it has read a rule to its end, before its lists are expanded.
//!
//! Source: OpenBSD sbin/pfctl/parse.y `pfrule`, `anchorrule`, `filteropts_to_rule`,
//! `decide_address_family`, `expand_divertspec`.

use pfapi::addr::Af;
use pfapi::check::{LABEL_MAX, TAG_MAX};
use pfapi::ruleset::{Action, Divert, RouteKind, StatePolicy, TcpFlagsMatch, proto};
use pfapi::units::Direction;

use crate::address::Host;
use crate::criteria::Flags;
use crate::diag::{Code, Diagnostic};
use crate::dialect::Dialect;
use crate::freebsd::{complete_routing, complete_translation};
use crate::parser::Fallible;
use crate::rules::RuleSpec;
use crate::scan::Place;
use crate::state::{StateItem, combine};
use crate::translate::DivertSpec;

/// What `set` lines say about state.
#[derive(Clone, Copy)]
pub(crate) struct StateDefaults<'a> {
    /// `set state-defaults`
    pub(crate) items: &'a [StateItem],
    /// `set state-policy if-bound`
    pub(crate) if_bound: bool,
}

/// Completes a `pass`, `block` or `match` rule.
///
/// # Errors
/// The message about parts that exclude each other.
pub(crate) fn complete(
    spec: &mut RuleSpec,
    defaults: StateDefaults,
    dialect: Dialect,
) -> Fallible<()> {
    options(spec, dialect)?;
    only_for_tcp(spec, "apply to tcp")?;
    let pass = spec.rule.action == Action::Pass;
    let (state, items) = match spec.state {
        Some(state) => (state, spec.state_items.as_slice()),
        None if pass => (StatePolicy::Keep, defaults.items),
        None => (StatePolicy::None, [].as_slice()),
    };
    spec.rule.state = state;
    let options = combine(items, state != StatePolicy::None, defaults.if_bound)?;
    spec.rule.state_options = options.into();
    spec.rule.flags = match spec.flags {
        Some(Flags::Match(flags)) => Some(flags),
        Some(Flags::Any) => None,
        None => {
            let wanted = pass && state != StatePolicy::None && !spec.rule.fragment;
            wanted.then_some(TcpFlagsMatch::S_SA)
        }
    };
    decide_family(&spec.from.hosts, &mut spec.rule.af);
    decide_family(&spec.to.hosts, &mut spec.rule.af);
    if dialect.is_freebsd() {
        complete_routing(spec)?;
        complete_translation(spec)?;
    } else if let Some((kind, _)) = &spec.route
        && *kind != RouteKind::DupTo
        && spec.rule.direction.is_none()
    {
        return Err(Box::new(
            Diagnostic::error(
                Code::Routing,
                "direction must be explicit with rules that specify routing",
            )
            .at(spec.places.of("route"), "for packets of which direction?")
            .help("add `in` or `out` behind `pass`"),
        ));
    }
    divert(spec)
}

/// Completes an `anchor` line.
///
/// # Errors
/// The message about parts that anchors cannot have.
pub(crate) fn complete_anchor(spec: &mut RuleSpec, dialect: Dialect) -> Fallible<()> {
    only_for_tcp(spec, "applies to tcp")?;
    options(spec, dialect)?;
    if spec.state.is_some_and(|state| state != StatePolicy::None) {
        return Err(Box::new(
            Diagnostic::error(Code::Anchor, "cannot specify state handling on anchors")
                .at(spec.places.of("state"), "anchors make no states")
                .help("write it on the rules in the anchor"),
        ));
    }
    if spec.route.is_some() {
        return Err(Box::new(
            Diagnostic::error(Code::Anchor, "cannot specify route handling on anchors")
                .at(spec.places.of("route"), "anchors do not route")
                .help("write it on the rules in the anchor"),
        ));
    }
    if let Some(Flags::Match(flags)) = spec.flags {
        spec.rule.flags = Some(flags);
    }
    decide_family(&spec.from.hosts, &mut spec.rule.af);
    decide_family(&spec.to.hosts, &mut spec.rule.af);
    // Translation and diversion of an anchor mean nothing; pfctl leaves them out, too.
    spec.nat = None;
    spec.rdr = None;
    spec.binat = false;
    spec.divert = None;
    spec.rule.freebsd.dummynet = None;
    Ok(())
}

/// Checks the options that rules and anchors have in common.
fn options(spec: &mut RuleSpec, dialect: Dialect) -> Fallible<()> {
    let rule = &spec.rule;
    let anchor = rule.anchor.is_some();
    if rule.once && (rule.action == Action::Match || anchor) {
        return Err(Box::new(
            Diagnostic::error(Code::Once, "'once' only applies to pass/block rules")
                .at(spec.places.of("once"), "this rule does not decide"),
        ));
    }
    let limiters =
        [(&rule.freebsd.state_limiter, "state"), (&rule.freebsd.source_limiter, "source")];
    for (used, kind) in limiters {
        if used.is_some() && rule.action != Action::Pass {
            let text = format!("{kind} limiter only applies to pass rules");
            return Err(Box::new(
                Diagnostic::error(Code::Limiter, text)
                    .at(&spec.places.rule, "this rule makes no states"),
            ));
        }
    }
    let tags = [rule.tag.as_deref(), rule.tagged.as_ref().map(|tagged| &tagged.name)];
    if let Some(tag) = tags.into_iter().flatten().find(|tag| tag.len() > TAG_MAX) {
        return Err(Box::new(
            Diagnostic::error(Code::Tag, format!("tag too long, max {TAG_MAX} chars"))
                .at(spec.places.of("tag"), format!("{} octets", tag.len())),
        ));
    }
    if let Some(label) = rule.labels().find(|label| label.len() > LABEL_MAX) {
        return Err(Box::new(label_too_long(spec.places.of("label"), label.len())));
    }
    if spec.af_to && rule.direction != Some(Direction::In) && dialect == Dialect::OpenBsd {
        return Err(Box::new(
            Diagnostic::error(Code::Translation, "af-to can only be used with direction in")
                .at(spec.places.of("af-to"), "packets change their family when they come in")
                .help("add `in` behind `pass`"),
        ));
    }
    if spec.af_to && spec.route.is_some() && dialect == Dialect::OpenBsd {
        let text = "af-to cannot be used together with route-to, reply-to, dup-to";
        return Err(Box::new(
            Diagnostic::error(Code::Translation, text)
                .at(spec.places.of("af-to"), "this")
                .and(spec.places.of("route").span, "and this"),
        ));
    }
    if let Some(Flags::Match(flags)) = spec.flags
        && flags.want & !flags.mask != 0
    {
        return Err(Box::new(
            Diagnostic::error(Code::Flags, "flags always false")
                .at(spec.places.of("flags"), "flags in front of the slash are missing behind it")
                .help("behind the slash stand all flags that are looked at, as in `flags S/SA`"),
        ));
    }
    Ok(())
}

/// A label that has no room in a rule.
pub(crate) fn label_too_long(here: &Place, len: usize) -> Diagnostic {
    Diagnostic::error(Code::Label, format!("rule label too long (max {LABEL_MAX} chars)"))
        .at(here, format!("{len} octets"))
}

/// `flags` and `os` are errors when no protocol of the rule can be TCP; else the others lose them.
fn only_for_tcp(spec: &RuleSpec, ending: &str) -> Fallible<()> {
    if spec.protocols.is_empty() || spec.protocols.contains(&proto::TCP) {
        return Ok(());
    }
    let flags = matches!(spec.flags, Some(Flags::Match(_)));
    let system = !spec.systems.is_empty();
    let fingerprints = format!("OS fingerprinting only {ending}");
    let help = "take it out, or add `tcp` to the protocols";
    let diagnostic = match (flags, system) {
        (false, false) => return Ok(()),
        (true, also) => {
            let diagnostic = Diagnostic::error(Code::Flags, "flags only apply to tcp")
                .at(spec.places.of("flags"), "no protocol of this rule has flags");
            if also { diagnostic.after(fingerprints) } else { diagnostic }
        }
        (false, true) => Diagnostic::error(Code::Fingerprint, fingerprints)
            .at(spec.places.of("os"), "only TCP tells what system sent it"),
    };
    Err(Box::new(diagnostic.help(help)))
}

/// Addresses that all have one family fix that of the rule.
pub(crate) fn decide_family(hosts: &[Host], af: &mut Option<Af>) {
    if af.is_some() {
        return;
    }
    let Some(first) = hosts.first() else { return };
    if hosts.iter().all(|host| host.af == first.af) {
        *af = first.af;
    }
}

fn divert(spec: &mut RuleSpec) -> Fallible<()> {
    let wrong = |text: &str, label: &str, help: &str| {
        Err(Box::new(
            Diagnostic::error(Code::Divert, text).at(spec.places.of("divert"), label).help(help),
        ))
    };
    let rule = &mut spec.rule;
    let divert = match &spec.divert {
        None => return Ok(()),
        Some(DivertSpec::To(addresses, port)) => {
            if rule.direction == Some(Direction::Out) {
                let help = "packets are diverted where they come in";
                return wrong("divert-to used with outgoing rule", "this rule is for `out`", help);
            }
            let fits = |addr: &&std::net::IpAddr| rule.af.is_none_or(|af| Af::of(**addr) == af);
            let Some(&addr) = addresses.iter().find(fits) else {
                let help = "the socket needs an address of the family of the rule";
                return wrong("divert-to address family mismatch", "this address", help);
            };
            rule.af = Some(Af::of(addr));
            Some(Divert::To { addr, port: *port })
        }
        Some(DivertSpec::Reply) => {
            if rule.direction == Some(Direction::In) {
                let help = "answers go out";
                return wrong(
                    "divert-reply used with incoming rule",
                    "this rule is for `in`",
                    help,
                );
            }
            Some(Divert::Reply)
        }
        Some(DivertSpec::Packet(port)) => Some(Divert::Packet { port: *port }),
    };
    rule.rare.divert = divert;
    Ok(())
}
