//! The drawer on the right, with its tabs.

use eframe::egui::{Role, Ui, WidgetInfo};

use super::{Drawing, channels, members, mesh};
use crate::settings::Tab;

/// Draws the tabs and the one that is open.
pub fn show(ui: &mut Ui, view: &mut Drawing, state: &mut members::MembersState) {
    ui.horizontal(|ui| {
        let here = view.snapshot().peers.iter().filter(|peer| peer.reachable).count();
        for (tab, text) in [
            (Tab::Members, format!("Members {}", here + 1)),
            (Tab::Channels, "Channels".to_owned()),
            (Tab::Mesh, "Network".to_owned()),
        ] {
            let open = view.settings.drawer == Some(tab);
            let button = ui.selectable_label(open, &text);
            button.widget_info(|| WidgetInfo::selected(Role::RadioButton, true, open, &text));
            if button.clicked() {
                view.settings.drawer = Some(tab);
            }
        }
    });
    ui.separator();
    match view.settings.drawer {
        Some(Tab::Members) => members::show(ui, view, state),
        Some(Tab::Channels) => channels::show(ui, view),
        Some(Tab::Mesh) => mesh::show(ui, view),
        None => {}
    }
}
