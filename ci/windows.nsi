; The installer for one account: it needs no administrator. Built by `ci/windows build`, which gives VERSION, FROM and TO.
; Of 64 bits, like the programs.
Target amd64-unicode
Unicode true
Name "Hark"
OutFile "${TO}"
RequestExecutionLevel user
InstallDir "$LOCALAPPDATA\Programs\Hark"
InstallDirRegKey HKCU "Software\Hark" "InstallDir"
SetCompressor /SOLID lzma
Icon "${__FILEDIR__}\..\ui\assets\icon.ico"
UninstallIcon "${__FILEDIR__}\..\ui\assets\icon.ico"
VIProductVersion "${VERSION}.0"
VIAddVersionKey ProductName "Hark"
VIAddVersionKey FileDescription "Hark's installer"
VIAddVersionKey FileVersion "${VERSION}"
VIAddVersionKey LegalCopyright ""

!define UNINSTALL "Software\Microsoft\Windows\CurrentVersion\Uninstall\Hark"

Page components
Page directory
Page instfiles
UninstPage uninstConfirm
UninstPage instfiles

Section "Hark"
    SectionIn RO
    SetOutPath "$INSTDIR"
    File "${FROM}\hark.exe" "${FROM}\hark-relay.exe" "${FROM}\hark-ui.exe" "${FROM}\manual.md" "${FROM}\CHANGELOG.md"
    File "${FROM}\LICENSE*"
    WriteUninstaller "$INSTDIR\uninstall.exe"
    CreateShortcut "$SMPROGRAMS\Hark.lnk" "$INSTDIR\hark-ui.exe"
    WriteRegStr HKCU "Software\Hark" "InstallDir" "$INSTDIR"
    ; Links of tickets.
    WriteRegStr HKCU "Software\Classes\hark" "" "URL:Hark"
    WriteRegStr HKCU "Software\Classes\hark" "URL Protocol" ""
    WriteRegStr HKCU "Software\Classes\hark\DefaultIcon" "" "$INSTDIR\hark-ui.exe,0"
    WriteRegStr HKCU "Software\Classes\hark\shell\open\command" "" '"$INSTDIR\hark-ui.exe" "%1"'
    WriteRegStr HKCU "${UNINSTALL}" "DisplayName" "Hark"
    WriteRegStr HKCU "${UNINSTALL}" "DisplayVersion" "${VERSION}"
    WriteRegStr HKCU "${UNINSTALL}" "DisplayIcon" "$INSTDIR\hark-ui.exe"
    WriteRegStr HKCU "${UNINSTALL}" "UninstallString" '"$INSTDIR\uninstall.exe"'
    WriteRegStr HKCU "${UNINSTALL}" "QuietUninstallString" '"$INSTDIR\uninstall.exe" /S'
    WriteRegDWORD HKCU "${UNINSTALL}" "NoModify" 1
    WriteRegDWORD HKCU "${UNINSTALL}" "NoRepair" 1
SectionEnd

; Without the rule, Windows's firewall drops what others send first, and paths open from this side only. Windows asks for
; an administrator. A silent installation asks for nothing.
Section "Let others reach Hark first (asks for an administrator)"
    IfSilent done
    ExecShellWait "runas" "cmd.exe" '/c netsh advfirewall firewall add rule name=Hark dir=in action=allow protocol=udp program="$INSTDIR\hark-ui.exe" & netsh advfirewall firewall add rule name=Hark dir=in action=allow protocol=udp program="$INSTDIR\hark.exe"' SW_HIDE
    WriteRegDWORD HKCU "Software\Hark" "FirewallRule" 1
done:
SectionEnd

; The home with keys and settings stays.
Section Uninstall
    ReadRegDWORD $0 HKCU "Software\Hark" "FirewallRule"
    IfSilent kept
    StrCmp $0 1 0 kept
    ExecShellWait "runas" "netsh" "advfirewall firewall delete rule name=Hark" SW_HIDE
kept:
    Delete "$INSTDIR\hark.exe"
    Delete "$INSTDIR\hark-relay.exe"
    Delete "$INSTDIR\hark-ui.exe"
    Delete "$INSTDIR\manual.md"
    Delete "$INSTDIR\CHANGELOG.md"
    Delete "$INSTDIR\LICENSE*"
    Delete "$INSTDIR\uninstall.exe"
    RMDir "$INSTDIR"
    Delete "$SMPROGRAMS\Hark.lnk"
    DeleteRegKey HKCU "Software\Classes\hark"
    DeleteRegKey HKCU "Software\Hark"
    DeleteRegKey HKCU "${UNINSTALL}"
SectionEnd
